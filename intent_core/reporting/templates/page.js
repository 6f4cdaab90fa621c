"use strict";
// Optional: sorts tables on a click on a heading, and expands collapsed sections for printing.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const key = (row) => {
      const cell = row.cells[column];
      return cell.dataset.sort === undefined ? cell.textContent : Number(cell.dataset.sort);
    };
    const sort = () => {
      const sign = heading.ariaSort === "ascending" ? -1 : 1;
      for (const other of heading.parentNode.cells) other.ariaSort = null;
      heading.ariaSort = sign === 1 ? "ascending" : "descending";
      const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b));
      body.append(...[...body.rows].sort((a, b) => sign * compare(key(a), key(b))));
    };
    heading.tabIndex = 0;
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", (event) => event.key === "Enter" && sort());
  });
}
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details:not([open])")) {
    folded.open = true;
    folded.dataset.folded = "";
  }
});
addEventListener("afterprint", () => {
  for (const opened of document.querySelectorAll("details[data-folded]")) opened.open = false;
});
