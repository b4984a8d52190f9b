// The review: a verdict, corrected labels and a note for each image of the gallery. The browser
// keeps them; review.csv carries them to the pipeline and to other reviewers. The gallery asks
// document.review for the state of an image; the event "review" announces a change.
const { review: settings, splits, classes } = JSON.parse(document.getElementById("report-data").textContent);
// Maximum number of labels that a message names.
const NAMED = 5;
const KEYS = { g: "good", b: "bad", u: "unsure", x: "" };
const panel = document.querySelector(".review");
const viewer = document.querySelector("dialog.viewer");
const judge = viewer.querySelector(".judge");
const names = new Set(classes.map(({ name }) => name));
const known = new Set(Object.values(splits).flatMap(({ images }) => images.map(({ id }) => id)));
// One entry for each step: what the changed images had before, and the conflicts if they changed.
let history = [];
let rows = new Map();
let conflicts = [];
// The text that the browser kept last, and the images with changes that it does not keep yet.
let seen = null;
const unsaved = new Set();
// A review of the same experiment in another report, and the time until which those were settled.
let earlier = null;
let until = 0;
let current = null;
let before = null;

document.review = {
  of: (id) => rows.get(id) ?? EMPTY,
  inConflict: (id) => openConflicts().some((conflict) => conflict.id === id),
};
takeStored();
findEarlier();
listen();
panel.hidden = judge.hidden = false;
refresh();

// State -------------------------------------------------------------------------------------

// Take what the browser keeps: at the start, and after a change in another tab with this report.
// Changes of this tab that are not kept yet stay. A step whose images the other tab changed cannot
// be undone here.
function takeStored() {
  try {
    const text = storedText(settings.key);
    if (text === seen || text === null) return;
    seen = text;
    const stored = parsedReview(text);
    const own = rows;
    rows = stored.rows;
    for (const id of unsaved) own.has(id) ? rows.set(id, own.get(id)) : rows.delete(id);
    const unchanged = (id) => JSON.stringify(own.get(id)) === JSON.stringify(rows.get(id));
    const decided = JSON.stringify(conflicts) !== JSON.stringify(stored.conflicts);
    history = history.filter((step) => [...step.rows.keys()].every(unchanged) && !(step.conflicts && decided));
    if (unsaved.size) stored.conflicts.push(...conflicts.filter((one) => !isListed(one, stored.conflicts)));
    ({ conflicts, until } = stored);
  } catch {
    warn("The browser cannot read the stored review of this page: load your last review.csv, and save it often.");
  }
}

// Store the review after a change. The page says so until it succeeds if the browser refuses.
function keep() {
  takeStored();
  try {
    seen = storeReview(settings.key, { rows, conflicts, until });
    unsaved.clear();
  } catch {
    // The line below the progress stays: the next verdict would replace a message.
  }
  document.dispatchEvent(new CustomEvent("review"));
  refresh();
}

function findEarlier() {
  try {
    earlier = earlierReview(settings.key, until, known);
  } catch {
    earlier = null; // The browser keeps nothing, which `takeStored` said.
  }
}

// Return the conflicts in which this page and the other file still differ.
function openConflicts() {
  return conflicts.filter(({ id, field, theirs }) => !same(field, document.review.of(id)[field], theirs));
}

function put(id, change) {
  const row = { ...document.review.of(id), ...change };
  unsaved.add(id);
  if (isEmpty(row)) rows.delete(id);
  else rows.set(id, row);
}

function change(id, values) {
  takeStored();
  history.push({ id, rows: new Map([[id, rows.get(id)]]) });
  put(id, values);
  keep();
}

function undo() {
  takeStored();
  const step = history.pop();
  if (!step) return say("Nothing to undo.");
  for (const [id, row] of step.rows) {
    unsaved.add(id);
    row ? rows.set(id, row) : rows.delete(id);
  }
  conflicts = step.conflicts ?? conflicts;
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

// Files -------------------------------------------------------------------------------------

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([writeReview(rows)], { type: "text/csv" }));
  link.download = "review.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  const left = openConflicts().length;
  const open = left ? ` ${plural(left, "conflict")} not decided: the file has the values of this page.` : "";
  say(`Saved review.csv with ${plural(rows.size, "image")}.${open}${aboutLabels(rows)}`);
}

// Return a sentence about labels that a run would refuse; empty if there are none.
function aboutLabels(review) {
  const found = [...review].flatMap(([id, { labels }]) => notClasses(labels).map((name) => `${name} (${id})`));
  const more = found.length > NAMED ? ` and ${found.length - NAMED} more` : "";
  return found.length ? ` Not classes of this data set: ${found.slice(0, NAMED).join(", ")}${more}.` : "";
}

// Load files one after the other. The message has a sentence for each of them.
async function loadAll(files) {
  const results = [];
  for (const file of files) results.push(await load(file));
  const tell = results.some(({ failed }) => failed) ? warn : say;
  tell(results.map(({ words }) => words).join(" "));
}

async function load(file) {
  let other;
  try {
    other = readReview(decoded(await file.arrayBuffer()));
  } catch (error) {
    return { failed: true, words: `${file.name}: ${error.message}. Nothing was loaded from this file.` };
  }
  const found = merge(other, file.name);
  const strange = [...other.keys()].filter((id) => !known.has(id)).length;
  const words =
    `Loaded ${plural(other.size, "image")} from ${file.name}: ${plural(found, "conflict")}.` +
    (strange ? ` ${plural(strange, "image")} not in this gallery: kept, and written to the saved file.` : "");
  return { failed: false, words: words + aboutLabels(other) };
}

// Merge another review into this one, and return how many of its values differ.
function merge(other, source) {
  takeStored();
  const old = new Map([...other.keys()].map((id) => [id, rows.get(id)]));
  const { merged, conflicts: found } = mergeReviews(rows, other);
  history.push({ id: null, rows: old, conflicts, until });
  rows = merged;
  for (const id of other.keys()) unsaved.add(id);
  const fresh = found.filter((one) => !isListed(one, conflicts));
  conflicts = [...conflicts, ...fresh.map((one) => ({ ...one, file: source }))];
  keep();
  return found.length;
}

function isListed({ id, field, theirs }, list) {
  return list.some((one) => one.id === id && one.field === field && one.theirs === theirs);
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
  takeStored();
  const place = openConflicts().findIndex((one) => isListed(one, [conflict]));
  history.push({ id: null, rows: new Map([[conflict.id, rows.get(conflict.id)]]), conflicts });
  conflicts = conflicts.filter((one) => !isListed(one, [conflict]));
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
    history.push({ id: before.id, rows: new Map([[before.id, before.row]]) });
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
    await loadAll(input.files);
    input.value = "";
  });
  document.querySelector("#gallery [name=split]").addEventListener("change", refresh);
  // Another tab with the same report changed the review, perhaps while the browser kept this one aside.
  const catchUp = () => {
    takeStored();
    document.dispatchEvent(new CustomEvent("review"));
    refresh();
  };
  window.addEventListener("storage", ({ key }) => key === PREFIX + settings.key && catchUp());
  window.addEventListener("pageshow", ({ persisted }) => persisted && catchUp());
  // The browser asks before it closes a page with changes that are stored nowhere.
  window.addEventListener("beforeunload", (event) => unsaved.size && event.preventDefault());
}

function refresh() {
  const text = progress();
  panel.querySelector(".progress").textContent = text;
  judge.querySelector(".progress").textContent = text;
  const lost = unsaved.size ? "The browser cannot store the review: save review.csv before you close the page." : "";
  for (const line of document.querySelectorAll(".unsaved")) if (line.textContent !== lost) line.textContent = lost;
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
