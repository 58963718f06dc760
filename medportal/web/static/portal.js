// What every page loads. Nothing here is needed to use the portal.
import { followAll } from "./delivery.js";

followAll(document);
