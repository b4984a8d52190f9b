// Other reviews: files, the review of an earlier report, and the conflicts with them.
// Maximum number of labels that a message names.
const NAMED = 5;

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
