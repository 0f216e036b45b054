"use strict";
// Makes each heading of the list a button that sorts by its column; a second press turns the order round.
(() => {
  const table = document.querySelector("table.sortable");
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const isNumber = heading.dataset.kind === "number";
      const isRising = heading.getAttribute("aria-sort") ? heading.getAttribute("aria-sort") === "descending" : !isNumber;
      const value = row => isNumber ? Number(row.cells[column].dataset.value) : row.cells[column].textContent;
      const compare = (a, b) => isNumber ? value(a) - value(b) : value(a).localeCompare(value(b));
      const rows = [...body.rows].sort((a, b) => isRising ? compare(a, b) : compare(b, a));
      body.append(...rows);
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", isRising ? "ascending" : "descending");
    });
  });
})();
