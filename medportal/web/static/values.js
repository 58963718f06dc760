// Makes a form of many values quick: Enter goes on, a box finds an input by its name, and what
// is outside the usual range is marked while it is typed. The server judges again when it signs.
//
// The page holds a <div data-entry> around the form, with a <template data-finder> that is shown
// only where this runs, and the words of the marks in data-low, data-critical-high and so on.
// Inputs carry data-limits, six numbers or "-": possible from, to, usual from, to, critical below,
// above. Lists of answers carry data-usual and data-critical.

const GROUPED = /^[0-9]{1,3}([.,' \u00a0\u202f][0-9]{3})+([.,][0-9]+)?$/;

export function easeEntry(root) {
  for (const entry of root.querySelectorAll("[data-entry]")) {
    const inputs = [...entry.querySelectorAll("form input:not([type=hidden]), form select")];
    for (const input of inputs) {
      mark(entry, input);
    }
    goOnWithEnter(entry, inputs);
    offerToFind(entry, inputs);
  }
}

// What a typed text says of its input: null, or the name of a mark.
export function judge(text, limits) {
  const typed = text.trim();
  if (typed === "") {
    return null;
  }
  if (limits.usual !== undefined || limits.critical !== undefined) {
    return judgeAnswer(typed, limits);
  }
  if (limits.limits === undefined) {
    return null;
  }
  // What is not stated is no number, and no number is below or above it.
  const known = limits.limits.split(" ").map(Number);
  const plain = typed.replace("\u2212", "-").replace(",", ".");
  if (!/^-?[0-9]+(\.[0-9]+)?$/.test(plain) || (GROUPED.test(typed) && known[1] >= 1000)) {
    return "implausible";
  }
  return judgeNumber(Number(plain), known);
}

function judgeAnswer(typed, { usual = "", critical = "" }) {
  if (critical.split(" ").includes(typed)) {
    return "critical-abnormal";
  }
  return usual === "" || usual.split(" ").includes(typed) ? null : "abnormal";
}

function judgeNumber(number, [least, most, low, high, criticalLow, criticalHigh]) {
  if (number < least || number > most) {
    return "implausible";
  }
  if (number < criticalLow || number > criticalHigh) {
    return number < criticalLow ? "critical-low" : "critical-high";
  }
  return number < low ? "low" : number > high ? "high" : null;
}

function mark(entry, input) {
  const field = input.closest(".field");
  if (field === null || Object.keys(input.dataset).length === 0) {
    return;
  }
  const says = document.createElement("output");
  says.className = "mark";
  says.htmlFor.add(input.id);
  field.append(says);
  const show = () => {
    const found = judge(input.value, input.dataset);
    const words = found === null ? "" : entry.getAttribute(`data-${found}`);
    // Only what is another word is said again by a screen reader.
    if (says.textContent !== words) {
      says.textContent = words;
      says.dataset.mark = found ?? "";
    }
  };
  input.addEventListener("input", show);
  show();
}

function goOnWithEnter(entry, inputs) {
  entry.addEventListener("keydown", (event) => {
    const place = inputs.indexOf(event.target);
    if (event.key !== "Enter" || event.isComposing || place < 0) {
      return;
    }
    event.preventDefault();
    const next = inputs[place + (event.shiftKey ? -1 : 1)];
    if (next !== undefined) {
      go(next);
    } else if (!event.shiftKey) {
      entry.querySelector("form button[type=submit], form textarea").focus();
    }
  });
}

function offerToFind(entry, inputs) {
  const template = entry.querySelector("template[data-finder]");
  if (template === null) {
    return;
  }
  template.after(template.content.cloneNode(true));
  const finder = entry.querySelector("[data-find]");
  const says = entry.querySelector("[data-find-nothing]");
  finder.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) {
      return;
    }
    event.preventDefault();
    const found = find(finder.value, inputs.map(labelOf));
    says.hidden = found >= 0;
    if (found >= 0) {
      finder.value = "";
      go(inputs[found]);
    }
  });
}

// The place of the name that is meant: one that begins so, or has a word that does, or holds it.
export function find(typed, names) {
  const wanted = fold(typed);
  if (wanted === "") {
    return -1;
  }
  const folded = names.map(fold);
  const ways = [
    (name) => name.startsWith(wanted),
    (name) => name.split(/[^\p{L}\p{N}]+/u).some((word) => word.startsWith(wanted)),
    (name) => name.includes(wanted),
  ];
  return ways.map((way) => folded.findIndex(way)).find((place) => place >= 0) ?? -1;
}

function fold(text) {
  return text.trim().toLowerCase().normalize("NFD").replace(/\p{Mn}/gu, "");
}

function labelOf(input) {
  return input.labels.length > 0 ? input.labels[0].textContent : "";
}

function go(input) {
  input.focus();
  if (input.select) {
    input.select();
  }
  input.scrollIntoView({ block: "nearest" });
}
