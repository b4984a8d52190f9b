// Reviews as CSV tables, and the merge of two of them. A review is a Map from an image id to
// {verdict, labels, note}. All values are texts; an empty one says nothing about the image.
const COLUMNS = ["image", "verdict", "labels", "note"];
const FIELDS = ["verdict", "labels", "note"];
const VERDICTS = ["good", "bad", "unsure"];
const EMPTY = { verdict: "", labels: "", note: "" };

// Return the text of a review.csv, sorted by image id.
function writeReview(review) {
  const ids = [...review.keys()].filter((id) => !isEmpty(review.get(id))).sort();
  const rows = ids.map((id) => [id, ...FIELDS.map((field) => review.get(id)[field])]);
  return [COLUMNS, ...rows].map((row) => `${row.map(quoted).join(",")}\n`).join("");
}

// Return the text in the bytes of a file, without a byte order mark.
function decoded(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Error("not UTF-8 text, save the table as UTF-8");
  }
}

// Return the review in a CSV text, without rows that say nothing. An error names the line and what
// was expected there.
function readReview(content) {
  const [header = [], ...rows] = parseCsv(content);
  const names = header.map((cell) => cell.trim());
  const missing = COLUMNS.filter((name) => !names.includes(name));
  if (missing.length) throw new Error(`its header is "${names.join(",")}", expected ${COLUMNS.join(",")}`);
  const twice = names.find((name, k) => name && names.indexOf(name) < k);
  if (twice) throw new Error(`its header names the column ${twice} twice`);
  const review = new Map();
  rows.forEach((cells, place) => {
    if (cells.every((cell) => !cell.trim())) return;
    const line = `row ${place + 2}`;
    if (cells.length !== names.length) throw new Error(`${line} has ${cells.length} cells, expected ${names.length}`);
    const row = Object.fromEntries(names.map((name, k) => [name, cells[k].trim()]));
    checkRow(row, line, review);
    review.set(row.image, { verdict: row.verdict, labels: plainLabels(row.labels), note: row.note });
  });
  return new Map([...review].filter(([, row]) => !isEmpty(row)));
}

function checkRow({ image, verdict }, line, review) {
  if (!image) throw new Error(`${line} names no image, expected an image id`);
  if (review.has(image)) throw new Error(`${line}: ${image} has a row already, expected one per image`);
  if (verdict && !VERDICTS.includes(verdict)) throw new Error(`${line}: verdict is "${verdict}", expected ${VERDICTS.join(", ")} or nothing`);
}

// Merge another review into one: what it lacks is taken, what differs is returned as a conflict.
function mergeReviews(own, other) {
  const merged = new Map(own);
  const conflicts = [];
  for (const [id, theirs] of other) {
    const mine = own.get(id) ?? EMPTY;
    const row = { ...mine };
    for (const field of FIELDS) {
      if (!mine[field]) row[field] = theirs[field];
      else if (theirs[field] && !same(field, mine[field], theirs[field])) conflicts.push({ id, field, theirs: theirs[field] });
    }
    merged.set(id, row);
  }
  return { merged, conflicts };
}

// Return labels joined by ";" without spaces and repetitions; a lone ";" stands for no label at all.
function plainLabels(labels) {
  if (!labels.trim()) return "";
  return [...new Set(labels.split(";").map((name) => name.trim()).filter(Boolean))].join(";") || ";";
}

function same(field, one, other) {
  if (field !== "labels") return one === other;
  const sorted = (labels) => plainLabels(labels).split(";").sort().join(";");
  return sorted(one) === sorted(other);
}

function isEmpty(row) {
  return FIELDS.every((field) => !row[field]);
}

function quoted(cell) {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

// Split a CSV text (RFC 4180) into rows of cells.
function parseCsv(content) {
  const rows = [[]];
  // A quoted or a plain cell, and the comma, line break or end behind it.
  const pattern = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n|\r|\n|$)/y;
  while (pattern.lastIndex < content.length) {
    const start = pattern.lastIndex;
    const match = pattern.exec(content);
    if (!match) throw new Error(`row ${rows.length} is not CSV at "${content.slice(start, start + 20)}", expected cells separated by commas`);
    rows.at(-1).push(match[1] === undefined ? match[2] : match[1].replaceAll('""', '"'));
    if (match[3] === "," && pattern.lastIndex === content.length) rows.at(-1).push("");
    if (match[3] !== "," && match[3]) rows.push([]);
  }
  if (!rows.at(-1).length) rows.pop();
  return rows;
}
