// Tells how strong a new password is while somebody types it.
//
// The page holds a <template data-strength="id of the field"> with a meter, a live region and
// the words of each level; data-minimum (characters), data-bits (what the server asks for) and
// data-words (words of the institution). The reckoning is that of the server's guessing.py,
// with a short list in place of its long ones: it may find more bits than the server, never
// fewer, so nobody is told here that a password is weak which the server would take. Nothing
// that is typed leaves the page.

const COMMON_BITS = 9;
const PERSONAL_BITS = 3;
const ANY = Math.log2(10);
const SEPARATOR = 1;
const COPY = 4;
const SEQUENCE = 5;
const WALK = 5;
const TURN = 2;
const YEAR = 6.5;
const REVERSED = 1;
const LEAST = 3; // of words, copies and sequences
const LEAST_WALK = 4;
const LONGEST_WORD = 30;
const LONGEST = 256;
const STRONG = 2; // times what is asked for
const PAUSE = 700; // milliseconds without a key before the words change

const SEPARATORS = " -_.,;/";
const ALIKE = new Map(
  [..."01l|!3465$@789+2аеорсхукміѕαοε"].map((from, i) => [
    from,
    "oiiiieabssatbgtzaeopcxykmisaoe"[i],
  ]),
);
const KEYS = new Map();
["1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm"].forEach((keys, row) => {
  [...keys].forEach((key, column) => KEYS.set(key, [row, column]));
});

// Each is among the five hundred commonest of the server's list.
export const COMMON = (
  "password 123456 12345678 qwerty 111111 dragon baseball football letmein monkey abc123 " +
  "mustang shadow master superman batman trustno1 welcome sunshine iloveyou princess " +
  "charlie michael jordan computer internet secret freedom whatever summer flower cheese " +
  "pepper ginger hello soccer hockey killer hunter ranger purple orange yellow silver " +
  "golden diamond samsung nicole jessica daniel thomas robert martin andrea maria " +
  "palavrapasse palavrachave segredo hospital paciente utente medportal sportingclube " +
  "slbenfica deusefiel enfermeira laboratorio changeme"
).split(" ");

export function showStrength(root) {
  for (const template of root.querySelectorAll("template[data-strength]")) {
    follow(template, document.getElementById(template.dataset.strength));
  }
}

function follow(template, input) {
  const asked = {
    minimum: Number(template.dataset.minimum),
    bits: Number(template.dataset.bits),
    words: template.dataset.words,
  };
  // Beside the row of field and button, not within it.
  const row = input.parentElement;
  row.after(template.content.cloneNode(true));
  const meter = row.nextElementSibling.querySelector("meter");
  const says = row.nextElementSibling.querySelector("[role=status]");
  let timer;
  input.addEventListener("input", () => {
    const now = level(input.value, asked);
    meter.value = now;
    clearTimeout(timer);
    // A screen reader says the words when somebody pauses, and only if they are others.
    timer = setTimeout(() => {
      const words = row.nextElementSibling.querySelector(`[data-level="${now}"]`);
      const text = words ? words.textContent.trim() : "";
      if (says.textContent !== text) {
        says.textContent = text;
      }
    }, PAUSE);
  });
}

// 0 for nothing typed, 1 too short, 2 easily guessed, 3 good, 4 very good.
export function level(password, { minimum, bits: wanted, words }) {
  if (password === "") {
    return 0;
  }
  if ([...password.normalize("NFC")].length < minimum) {
    return 1;
  }
  const found = bits(password, words);
  if (found < wanted) {
    return 2;
  }
  return found < wanted * STRONG ? 3 : 4;
}

// The base-2 logarithm of the guesses that a password withstands.
export function bits(password, words = "") {
  const known = new Map(COMMON.map((word) => [alike(word), COMMON_BITS]));
  for (const word of fold(words).split(/[^\p{L}\p{N}]+/u)) {
    if (word.length >= LEAST) {
      known.set(alike(word), PERSONAL_BITS);
    }
  }
  const letters = lettersOf(password);
  const joined = letters.filter(([letter]) => !SEPARATORS.includes(letter));
  const apart = SEPARATOR * (letters.length - joined.length);
  return Math.min(cheapest(letters, known), cheapest(joined, known) + apart);
}

function fold(text) {
  return text
    .normalize("NFKC")
    .toLowerCase()
    .normalize("NFKD")
    .replace(/[\p{Mn}\p{Me}\p{Cf}]/gu, "");
}

function lettersOf(password) {
  const typed = [...password.slice(0, 4 * LONGEST).normalize("NFKC")];
  return typed
    .flatMap((ch) => [...fold(ch)].map((letter) => [letter, /\p{Lu}/u.test(ch)]))
    .slice(0, LONGEST);
}

function alike(text) {
  return [...text].map((ch) => ALIKE.get(ch) ?? ch).join("");
}

// The bits of the cheapest chain of parts that makes up the whole.
function cheapest(letters, known) {
  const plain = letters.map(([letter]) => letter);
  const text = {
    plain,
    capitals: letters.map(([, capital]) => capital),
    alike: plain.map((ch) => ALIKE.get(ch) ?? ch),
  };
  text.again = againOf(text.alike);
  const best = [0, ...plain.map(() => Infinity)];
  for (let start = 0; start < plain.length; start += 1) {
    const take = (end, cost) => {
      best[end] = Math.min(best[end], best[start] + cost);
    };
    take(start + 1, SEPARATORS.includes(plain[start]) ? SEPARATOR : ANY);
    takeWords(text, start, known, take);
    takeCopies(text, start, take);
    takeSequences(text, start, take);
    takeWalks(text, start, take);
    if (/^(19|20)[0-9]{2}$/.test(plain.slice(start, start + 4).join(""))) {
      take(start + 4, YEAR);
    }
  }
  return best[plain.length];
}

function takeWords(text, start, known, take) {
  const last = Math.min(text.alike.length, start + LONGEST_WORD);
  for (let end = start + LEAST; end <= last; end += 1) {
    const part = text.alike.slice(start, end);
    const forward = known.get(part.join("")) ?? Infinity;
    const backward = known.get(part.reverse().join("")) ?? Infinity;
    const found = Math.min(forward, backward + REVERSED);
    if (found < Infinity) {
      take(end, found + ofCapitals(text.capitals.slice(start, end)));
    }
  }
}

function ofCapitals(capitals) {
  const count = capitals.filter(Boolean).length;
  if (count === 0) {
    return 0;
  }
  const usual = count === capitals.length || (count === 1 && capitals[0]);
  return usual ? 1 : Math.min(4, 1 + count);
}

// For each place how much of what follows there stood before.
function againOf(text) {
  const longest = new Array(text.length + 1).fill(0);
  const after = new Array(text.length + 1).fill(0);
  for (let i = text.length - 1; i >= 0; i -= 1) {
    for (let j = i + 1; j < text.length; j += 1) {
      after[j] = text[i] === text[j] ? after[j + 1] + 1 : 0;
      longest[j] = Math.max(longest[j], after[j]);
    }
  }
  return longest;
}

function takeCopies(text, start, take) {
  for (let length = LEAST; length <= text.again[start]; length += 1) {
    take(start + length, COPY);
  }
}

function takeSequences(text, start, take) {
  for (const step of [1, -1]) {
    let end = start + 1;
    while (
      end < text.plain.length &&
      text.plain[end].codePointAt(0) - text.plain[end - 1].codePointAt(0) === step
    ) {
      end += 1;
      if (end - start >= LEAST) {
        take(end, SEQUENCE);
      }
    }
  }
}

function takeWalks(text, start, take) {
  let turns = 0;
  let before = null;
  const last = Math.min(text.plain.length, start + LONGEST_WORD);
  for (let end = start + 1; end < last; end += 1) {
    const step = stepOf(text.plain[end - 1], text.plain[end]);
    if (step === null) {
      return;
    }
    turns += before !== null && step !== before ? 1 : 0;
    before = step;
    if (end + 1 - start >= LEAST_WALK) {
      take(end + 1, WALK + TURN * turns);
    }
  }
}

function stepOf(one, two) {
  const [from, to] = [KEYS.get(one), KEYS.get(two)];
  if (!from || !to || one === two) {
    return null;
  }
  const [down, right] = [to[0] - from[0], to[1] - from[1]];
  return Math.abs(down) <= 1 && Math.abs(right) <= 1 ? `${down} ${right}` : null;
}
