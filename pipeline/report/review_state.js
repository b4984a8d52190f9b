// The state of the review: rows, conflicts and the steps that can be undone. The browser keeps it.
// The gallery asks document.review for the state of an image; the event "review" announces a change.
const { review: settings, splits, classes } = JSON.parse(document.getElementById("report-data").textContent);
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

document.review = {
  of: (id) => rows.get(id) ?? EMPTY,
  inConflict: (id) => openConflicts().some((conflict) => conflict.id === id),
};

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
