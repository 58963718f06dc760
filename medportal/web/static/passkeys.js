// Passkeys: asks the browser to use or to make one, and sends its answer as an ordinary form.
//
// A form with data-passkey ("get" or "create") is shown where the browser can use passkeys.
// Sending it asks data-options for a challenge (the form's csrf_token and purpose go along),
// hands that to the browser, and puts the browser's answer as JSON into the field "credential".
// Words stand in <template data-words> inside the form, so that they are in the page's language.
// An element with data-passkey-missing is shown where the browser cannot use passkeys.

const SOON = 2000; // milliseconds by which a browser may give up before the time it was given

export function offerPasskeys(root) {
  const able = canUsePasskeys();
  for (const element of root.querySelectorAll("[data-passkey-missing]")) {
    element.hidden = able;
  }
  for (const form of able ? root.querySelectorAll("form[data-passkey]") : []) {
    form.hidden = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      run(form);
    });
    // A page that comes back out of the browser's memory can be used again.
    window.addEventListener("pageshow", () => rest(form));
  }
}

function canUsePasskeys() {
  return window.isSecureContext && "PublicKeyCredential" in window && "credentials" in navigator;
}

async function run(form) {
  if (form.dataset.busy) {
    return;
  }
  form.dataset.busy = "yes";
  say(form, "info", words(form, "asking"));
  const problem = await attempt(form);
  if (problem) {
    rest(form);
    say(form, "warn", problem);
  }
}

function rest(form) {
  delete form.dataset.busy;
  say(form, "info", "");
}

// Returns what to tell the person, or nothing if another page comes next.
async function attempt(form) {
  const asked = await options(form);
  if (!asked.publicKey) {
    return asked.problem;
  }
  const started = performance.now();
  try {
    const credential = await navigator.credentials[form.dataset.passkey](asked);
    form.elements.credential.value = JSON.stringify(readable(credential));
  } catch (error) {
    const waited = performance.now() - started;
    return words(form, reason(error, waited >= asked.publicKey.timeout - SOON));
  }
  form.submit();
  return "";
}

// Returns {publicKey}, or {problem}: words, empty if the page is being loaded anew.
async function options(form) {
  try {
    const response = await fetch(form.dataset.options, {
      method: "POST",
      body: new URLSearchParams({
        csrf_token: form.elements.csrf_token.value,
        purpose: form.elements.purpose.value,
      }),
      headers: { Accept: "application/json" },
      redirect: "manual",
      cache: "no-store",
    });
    if (response.type === "opaqueredirect") {
      // Whoever is sent elsewhere has to sign in or to confirm first: the page itself says so.
      window.location.reload();
      return { problem: "" };
    }
    const answer = await response.json();
    return response.ok ? { publicKey: binary(answer) } : { problem: answer.text };
  } catch {
    return { problem: words(form, "failed") };
  }
}

// For somebody's safety browsers do not say whether it was cancelled, refused or not recognised.
function reason(error, late) {
  switch (error.name) {
    case "NotAllowedError":
    case "AbortError":
      return late ? "timeout" : "cancelled";
    case "InvalidStateError":
      return "known";
    case "SecurityError":
      return "site";
    case "NotSupportedError":
    case "ConstraintError":
      return "unsupported";
    default:
      return "failed";
  }
}

function words(form, name) {
  return form.querySelector(`template[data-words="${name}"]`).content.textContent.trim();
}

// The place for messages is a live region: it stays, and what it holds changes.
function say(form, kind, text) {
  const place = form.querySelector("[data-passkey-said]");
  place.textContent = "";
  if (text) {
    const notice = document.createElement("div");
    notice.className = "notice";
    notice.dataset.kind = kind;
    notice.append(document.createElement("p"));
    notice.firstChild.textContent = text;
    place.append(notice);
  }
}

// JSON holds bytes as base64url; the browser's calls want and give buffers.
function binary(answer) {
  const bytesOf = (one) => ({ ...one, id: bytes(one.id) });
  const made = { ...answer, challenge: bytes(answer.challenge) };
  if (answer.user) {
    made.user = bytesOf(answer.user);
  }
  for (const list of ["allowCredentials", "excludeCredentials"]) {
    if (answer[list]) {
      made[list] = answer[list].map(bytesOf);
    }
  }
  return made;
}

function readable(credential) {
  const response = {};
  for (const name of [
    "clientDataJSON",
    "attestationObject",
    "authenticatorData",
    "signature",
    "userHandle",
  ]) {
    if (credential.response[name]) {
      response[name] = base64url(credential.response[name]);
    }
  }
  if (credential.response.getTransports) {
    response.transports = credential.response.getTransports();
  }
  return { id: credential.id, rawId: base64url(credential.rawId), type: credential.type, response };
}

function bytes(text) {
  const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(plain, (character) => character.charCodeAt(0));
}

function base64url(buffer) {
  const plain = Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join("");
  return btoa(plain).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
