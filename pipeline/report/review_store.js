// What the browser keeps: a review for each experiment and its labels. Reports of one experiment
// with other images, methods or labels have other keys, EXPERIMENT/LABELS.
const PREFIX = "wsss-review/";

// Return the text of the stored review of a key; null if there is none.
function storedText(key) {
  return localStorage.getItem(PREFIX + key);
}

// Return the review in a stored text. A damaged one is an error.
function parsedReview(text) {
  const { rows, conflicts = [], time = 0, until = 0 } = JSON.parse(text);
  const known = conflicts.filter(({ id, field, theirs }) => id && FIELDS.includes(field) && theirs);
  return { rows: new Map(rows.map(([id, row]) => [id, plainRow(row)])), conflicts: known, time, until };
}

// Store a review, and return its text.
function storeReview(key, review) {
  const text = JSON.stringify({ ...review, rows: [...review.rows], time: Date.now() });
  localStorage.setItem(PREFIX + key, text);
  return text;
}

// Return the latest review of the same experiment under another key, if it is later than a time
// and has an image of the page.
function earlierReview(key, until, images) {
  const start = PREFIX + key.slice(0, key.lastIndexOf("/") + 1);
  let latest = null;
  for (const name of Object.keys(localStorage)) {
    if (!name.startsWith(start) || name === PREFIX + key) continue;
    const review = readable(name.slice(PREFIX.length));
    if (review?.time > Math.max(until, latest?.time ?? 0) && [...review.rows.keys()].some((id) => images.has(id))) latest = review;
  }
  return latest;
}

function readable(key) {
  try {
    return parsedReview(storedText(key));
  } catch {
    return null;
  }
}

function plainRow(row) {
  return Object.fromEntries(FIELDS.map((field) => [field, String(row[field] ?? "")]));
}
