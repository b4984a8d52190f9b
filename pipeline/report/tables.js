// Tables of class "sortable": a click (or Enter or Space) on a heading sorts the rows by its column.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const first = heading.classList.contains("number") ? "descending" : "ascending";
      const second = first === "descending" ? "ascending" : "descending";
      const direction = heading.getAttribute("aria-sort") === first ? second : first;
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", direction);
      sortRows(table.tBodies[0], column, direction === "ascending" ? 1 : -1);
    });
  });
}

// Sort numbers by value and text alphabetically; empty cells always come last.
function sortRows(body, column, sign) {
  const keyed = [...body.rows].map((row) => [row.cells[column].dataset.value ?? row.cells[column].textContent.trim(), row]);
  const number = (text) => (text === "" ? NaN : Number(text.replace(/[%,\u00a0 ]/g, "").replace("\u2212", "-")));
  const numeric = keyed.some(([text]) => !Number.isNaN(number(text)));
  keyed.sort(([a], [b]) => {
    if (!numeric) return sign * a.localeCompare(b, undefined, { numeric: true });
    const [x, y] = [number(a), number(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return sign * (x - y);
  });
  body.append(...keyed.map(([, row]) => row));
}
