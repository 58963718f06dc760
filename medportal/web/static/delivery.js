// Follows states that change on the server while somebody looks at the page.
//
// An element with data-poll-url is kept in step with what that address answers:
// {"state": code, "text": words, "kind": ok|wait|warn|bad|info (optional), "final": boolean,
// "detail": words (optional, for the element with data-poll-detail in the same data-poll-group)}.
// Its words and data-kind change in place. The element, or one around it, is a live region
// (role="status"), so a screen reader says the new words; they are written only when they
// differ. Without scripts the page says the same after a reload.

const FIRST = 1000; // milliseconds between questions
const PATIENT = 10; // questions asked at that pace before slowing down
const SLOWER = 1.5;
const LAST = 30000;

export function followAll(root) {
  for (const element of root.querySelectorAll("[data-poll-url]")) {
    follow(element);
  }
}

export function pause(asked) {
  const slowed = FIRST * SLOWER ** Math.max(0, asked - PATIENT);
  return Math.min(LAST, slowed);
}

async function follow(element) {
  for (let asked = 1; ; asked += 1) {
    await sleep(pause(asked));
    await visible();
    const answer = await ask(element.dataset.pollUrl);
    if (answer === "stop") {
      return;
    }
    if (answer !== "later") {
      show(element, answer);
      if (answer.final) {
        return;
      }
    }
  }
}

// Returns the answer, "later" where asking again may help, "stop" where it cannot: the page is
// gone, or nobody is signed in any more (which shows as a redirect).
async function ask(url) {
  let response;
  try {
    response = await fetch(url, {
      headers: { Accept: "application/json" },
      redirect: "manual",
      cache: "no-store",
    });
  } catch {
    return "later";
  }
  if (!response.ok) {
    return response.status >= 500 || response.status === 429 ? "later" : "stop";
  }
  try {
    return await response.json();
  } catch {
    return "stop";
  }
}

function show(element, answer) {
  if (element.textContent !== answer.text) {
    element.textContent = answer.text;
  }
  if (answer.kind) {
    element.dataset.kind = answer.kind;
  }
  element.dataset.state = answer.state;
  const detail = element.closest("[data-poll-group]")?.querySelector("[data-poll-detail]");
  if (detail && typeof answer.detail === "string" && detail.textContent !== answer.detail) {
    detail.textContent = answer.detail;
  }
}

function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// A page in a hidden tab asks nothing.
function visible() {
  if (document.visibilityState === "visible") {
    return Promise.resolve();
  }
  return new Promise((resolve) => {
    const seen = () => {
      if (document.visibilityState === "visible") {
        document.removeEventListener("visibilitychange", seen);
        resolve();
      }
    };
    document.addEventListener("visibilitychange", seen);
  });
}
