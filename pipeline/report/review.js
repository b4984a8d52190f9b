// The review: a verdict, corrected labels and a note for each image of the gallery. The browser
// keeps them; review.csv carries them to the pipeline and to other reviewers. The gallery asks
// document.review for the state of an image; the event "review" announces a change.
const { review: settings, splits, classes } = JSON.parse(document.getElementById("report-data").textContent);
const KEYS = { g: "good", b: "bad", u: "unsure", x: "" };
const panel = document.querySelector(".review");
const viewer = document.querySelector("dialog.viewer");
const judge = viewer.querySelector(".judge");
const known = new Set(Object.values(splits).flatMap(({ images }) => images.map(({ id }) => id)));
// One entry for each step: what the changed images had before.
const history = [];
let rows = new Map();
let conflicts = [];
// A review of the same experiment in another report, and the time until which those were settled.
let earlier = null;
let until = 0;
let current = null;
let before = null;

document.review = {
  of: (id) => rows.get(id) ?? EMPTY,
  inConflict: (id) => openConflicts().some((conflict) => conflict.id === id),
};
restore();
findEarlier();
listen();
panel.hidden = judge.hidden = false;
refresh();

// State -------------------------------------------------------------------------------------

function restore() {
  try {
    const stored = storedReview(settings.key);
    if (stored) ({ rows, conflicts, until } = stored);
  } catch {
    warn("The browser cannot read the stored review of this page: load your last review.csv, and save it often.");
  }
}

function keep() {
  try {
    storeReview(settings.key, { rows, conflicts, until });
  } catch {
    warn("The browser could not store the last change: save review.csv before you close this page.");
  }
  document.dispatchEvent(new CustomEvent("review"));
  refresh();
}

function findEarlier() {
  try {
    earlier = earlierReview(settings.key, until, known);
  } catch {
    earlier = null; // The browser keeps nothing, which `restore` said.
  }
}

// Return the conflicts in which this page and the other file still differ.
function openConflicts() {
  return conflicts.filter(({ id, field, theirs }) => !same(field, document.review.of(id)[field], theirs));
}

function put(id, change) {
  const row = { ...document.review.of(id), ...change };
  if (isEmpty(row)) rows.delete(id);
  else rows.set(id, row);
}

function change(id, values) {
  history.push({ id, rows: new Map([[id, rows.get(id)]]), conflicts });
  put(id, values);
  keep();
}

function undo() {
  const step = history.pop();
  if (!step) return say("Nothing to undo.");
  for (const [id, row] of step.rows) row ? rows.set(id, row) : rows.delete(id);
  conflicts = step.conflicts;
  until = step.until ?? until;
  findEarlier();
  keep();
  if (step.id) document.dispatchEvent(new CustomEvent("step", { detail: { id: step.id } }));
  say(step.id ? `Undone: ${step.id} is ${document.review.of(step.id).verdict || "not reviewed"}.` : "Undone.");
}

// Verdicts in the viewer --------------------------------------------------------------------

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
  const names = classes.map(({ name }) => name);
  const wrong = labels.value.split(";").map((name) => name.trim()).filter((name) => name && !names.includes(name));
  labels.setAttribute("aria-invalid", wrong.length > 0);
  judge.querySelector(".problem").textContent = wrong.length ? `Unknown class: ${wrong.join(", ")}. The classes are ${names.join(", ")}.` : "";
}

// A key acts on the image unless it is typed into a field or belongs to the browser.
function onKey(event) {
  if (event.target.matches("input")) return leaveField(event);
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
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

// Escape and Enter go back from a field to the image; they do not close the viewer.
function leaveField(event) {
  if (event.key !== "Escape" && event.key !== "Enter") return;
  event.preventDefault();
  viewer.querySelector("h3").focus();
}

// Files -------------------------------------------------------------------------------------

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([writeReview(rows)], { type: "text/csv" }));
  link.download = "review.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  const left = openConflicts().length;
  const open = left ? ` ${plural(left, "conflict")} not decided: the file has the values of this page.` : "";
  say(`Saved review.csv with ${plural(rows.size, "image")}.${open}`);
}

async function load(file) {
  let other;
  try {
    other = readReview(await file.text());
  } catch (error) {
    return warn(`${file.name}: ${error.message}. Nothing was loaded.`);
  }
  const found = merge(other, file.name);
  const strange = [...other.keys()].filter((id) => !known.has(id)).length;
  say(
    `Loaded ${plural(other.size, "image")} from ${file.name}: ${plural(found, "conflict")}.` +
      (strange ? ` ${plural(strange, "image")} not in this gallery: kept, and written to the saved file.` : ""),
  );
}

// Merge another review into this one, and return how many of its values differ.
function merge(other, source) {
  const old = new Map([...other.keys()].map((id) => [id, rows.get(id)]));
  const { merged, conflicts: found } = mergeReviews(rows, other);
  history.push({ id: null, rows: old, conflicts, until });
  rows = merged;
  const stands = (one) => conflicts.some(({ id, field, theirs }) => id === one.id && field === one.field && theirs === one.theirs);
  conflicts = [...conflicts, ...found.filter((one) => !stands(one)).map((one) => ({ ...one, file: source }))];
  keep();
  return found.length;
}

// A report of the same experiment was reviewed in this browser: go on from there, or leave it.
function settleEarlier(taken) {
  const { rows: other, time } = earlier;
  if (taken) {
    const found = merge(other, "the earlier review");
    say(`Continued the earlier review of ${plural(other.size, "image")}: ${plural(found, "conflict")}.`);
  }
  [earlier, until] = [null, time];
  keep();
  panel.querySelector(".begin").focus();
}

// Two reviewers who differ: the page keeps its value until somebody decides.
function conflictItem(conflict) {
  const { id, field, theirs, file } = conflict;
  const mine = document.review.of(id)[field] || "nothing";
  const item = document.createElement("li");
  const words = document.createElement("span");
  words.textContent = `${id}, ${field}: ${mine} here, ${theirs} in ${file}`;
  item.append(
    words,
    button(`Keep ${mine}`, `Keep ${field} ${mine} of ${id}`, () => settle(conflict, null)),
    button(`Take ${theirs}`, `Take ${field} ${theirs} of ${id}`, () => settle(conflict, theirs)),
  );
  return item;
}

function settle(conflict, value) {
  const place = openConflicts().indexOf(conflict);
  history.push({ id: null, rows: new Map([[conflict.id, rows.get(conflict.id)]]), conflicts });
  conflicts = conflicts.filter((one) => one !== conflict);
  if (value !== null) put(conflict.id, { [conflict.field]: value });
  keep();
  const items = panel.querySelectorAll(".conflicts li");
  const next = items[Math.min(place, items.length - 1)];
  (next?.querySelector("button") ?? panel.querySelector(".save")).focus();
}

// The page ----------------------------------------------------------------------------------

function listen() {
  viewer.addEventListener("keydown", onKey);
  document.addEventListener("shown", ({ detail }) => {
    current = detail;
    fillJudge();
  });
  judge.addEventListener("submit", (event) => event.preventDefault());
  judge.addEventListener("click", ({ target }) => {
    const pressed = target.closest("button");
    if (pressed?.matches(".undo")) undo();
    else if (pressed) decide(pressed.dataset.verdict);
  });
  // Every letter is kept at once. One step of undo takes back all that was typed into a field.
  judge.addEventListener("focusin", () => (before = { id: current.id, row: rows.get(current.id) }));
  judge.addEventListener("input", ({ target }) => {
    put(current.id, { [target.name]: target.name === "labels" ? plainLabels(target.value) : target.value.trim() });
    keep();
  });
  judge.addEventListener("change", () => {
    history.push({ id: before.id, rows: new Map([[before.id, before.row]]), conflicts });
    before = { id: current.id, row: rows.get(current.id) };
    refresh();
  });
  panel.querySelector(".save").addEventListener("click", save);
  panel.querySelector(".undo").addEventListener("click", undo);
  panel.querySelector(".continue").addEventListener("click", () => settleEarlier(true));
  panel.querySelector(".ignore").addEventListener("click", () => settleEarlier(false));
  const input = panel.querySelector("input[type=file]");
  panel.querySelector(".load").addEventListener("click", () => input.click());
  input.addEventListener("change", async () => {
    for (const file of input.files) await load(file);
    input.value = "";
  });
  document.querySelector("#gallery [name=split]").addEventListener("change", refresh);
  // Another tab with the same report changed the review.
  window.addEventListener("storage", ({ key }) => {
    if (key !== PREFIX + settings.key) return;
    restore();
    document.dispatchEvent(new CustomEvent("review"));
    refresh();
  });
}

function refresh() {
  const text = progress();
  panel.querySelector(".progress").textContent = text;
  judge.querySelector(".progress").textContent = text;
  const { done, total } = counted();
  Object.assign(panel.querySelector("progress"), { value: done, max: total || 1 });
  const open = openConflicts();
  panel.querySelector(".conflicts").replaceChildren(...open.map(conflictItem));
  panel.querySelector(".disagreement").hidden = open.length === 0;
  showEarlier();
  fillJudge();
}

function showEarlier() {
  const line = panel.querySelector(".earlier");
  line.hidden = !earlier;
  if (!earlier) return;
  const here = [...earlier.rows.keys()].filter((id) => known.has(id)).length;
  line.querySelector("span").textContent =
    `This browser has a review of another report of this experiment (other images, methods or labels). ` +
    `It judges or corrects ${plural(here, "image")} of this page.`;
}

function counted() {
  const images = splits[document.querySelector("#gallery [name=split]").value]?.images ?? [];
  const counts = Object.fromEntries(VERDICTS.map((verdict) => [verdict, 0]));
  for (const { id } of images) if (document.review.of(id).verdict) counts[document.review.of(id).verdict] += 1;
  const done = VERDICTS.reduce((sum, verdict) => sum + counts[verdict], 0);
  return { counts, done, total: images.length };
}

function progress() {
  const { counts, done, total } = counted();
  return `${done} of ${total} images reviewed: ${VERDICTS.map((verdict) => `${counts[verdict]} ${verdict}`).join(", ")}.`;
}

function say(words) {
  const place = viewer.open ? judge.querySelector(".message") : panel.querySelector(".message");
  place.textContent = words;
  place.classList.remove("problem");
}

function warn(words) {
  say(words);
  panel.querySelector(".message").textContent = words;
  panel.querySelector(".message").classList.add("problem");
}

function button(label, description, action) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = label;
  element.setAttribute("aria-label", description);
  element.addEventListener("click", action);
  return element;
}

function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
