// Verdicts, corrected labels and notes in the viewer, by keyboard and by buttons.
const KEYS = { g: "good", b: "bad", u: "unsure", x: "" };
const viewer = document.querySelector("dialog.viewer");
const judge = viewer.querySelector(".judge");
const names = new Set(classes.map(({ name }) => name));
// The image that the viewer shows, and what an image had before the field in focus was edited.
let current = null;
let before = null;

function decide(verdict) {
  const { id, last } = current;
  change(id, { verdict });
  say(`${id}: ${verdict || "no verdict"}.${last ? " This is the last image." : ""}`);
  if (verdict && !last) document.dispatchEvent(new CustomEvent("step", { detail: { by: 1 } }));
}

function fillJudge() {
  if (!current) return;
  const row = document.review.of(current.id);
  for (const button of judge.querySelectorAll("[aria-pressed]")) {
    button.setAttribute("aria-pressed", button.dataset.verdict === row.verdict);
  }
  const { labels, note } = judge.elements;
  for (const [field, value] of [[labels, row.labels], [note, row.note]]) if (field !== document.activeElement) field.value = value;
  labels.placeholder = current.labels.join(";") || "no label";
  checkLabels();
}

function checkLabels() {
  const { labels } = judge.elements;
  const wrong = notClasses(plainLabels(labels.value));
  labels.setAttribute("aria-invalid", wrong.length > 0);
  judge.querySelector(".problem").textContent = wrong.length ? `Unknown class: ${wrong.join(", ")}. The classes are ${[...names].join(", ")}.` : "";
}

function notClasses(labels) {
  return labels.split(";").filter((name) => name && !names.has(name));
}

// A key acts on the image unless it is typed into a field or belongs to the browser.
function onKey(event) {
  if (event.isComposing) return; // An input method uses the key, for example to end a word.
  if (event.target.matches("input")) return leaveField(event);
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const key = letterOf(event);
  const actions = {
    z: undo,
    l: () => judge.elements.labels.focus(),
    c: () => judge.elements.note.focus(),
    n: () => document.dispatchEvent(new CustomEvent("step", { detail: { by: 1 } })),
    p: () => document.dispatchEvent(new CustomEvent("step", { detail: { by: -1 } })),
  };
  // A key that is held down judges one image.
  if (event.repeat && (key in KEYS || key === "z")) return event.preventDefault();
  if (key in KEYS) decide(KEYS[key]);
  else if (key in actions) actions[key]();
  else return;
  event.preventDefault();
}

// Return the letter of a key; by its place on the keyboard if its own letter is not Latin.
function letterOf({ key, code }) {
  const isOther = key.length === 1 && key > "\u007f";
  return (isOther ? code.replace("Key", "") : key).toLowerCase();
}

// Escape and Enter go back from a field to the image; they do not close the viewer.
function leaveField(event) {
  if (event.key !== "Escape" && event.key !== "Enter") return;
  event.preventDefault();
  viewer.querySelector("h3").focus();
}
