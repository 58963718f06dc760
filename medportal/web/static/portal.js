// What every page loads. Nothing here is needed to use the portal.
import { followAll } from "./delivery.js";
import { offerPasskeys } from "./passkeys.js";
import { offerToShow } from "./password.js";
import { offerPrinting } from "./print.js";
import { showStrength } from "./strength.js";
import { easeEntry } from "./values.js";

followAll(document);
offerPasskeys(document);
offerPrinting(document);
offerToShow(document);
showStrength(document);
easeEntry(document);
