"use strict";
(function () {
  const number = (cell) => {
    const raw = cell.dataset.sort;
    return raw === undefined || raw === "" ? -Infinity : Number(raw);
  };
  const text = (cell) => cell.textContent.trim();

  function sort(table, column, button) {
    const head = table.tHead.rows[0].cells;
    const down = head[column].getAttribute("aria-sort") === "ascending";
    for (const cell of head) cell.removeAttribute("aria-sort");
    head[column].setAttribute("aria-sort", down ? "descending" : "ascending");
    const numeric = head[column].dataset.kind !== "text";
    const words = new Intl.Collator("en", { numeric: true });
    const rows = Array.from(table.tBodies[0].rows);
    rows.sort((a, b) => {
      const x = a.cells[column], y = b.cells[column];
      const order = numeric ? number(x) - number(y) || 0 : words.compare(text(x), text(y));
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
    button.focus();
  }

  function filter(field) {
    const table = document.getElementById(field.dataset.table);
    const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const have = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => have.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    document.getElementById("n-" + table.id).value = shown + " of " + table.tBodies[0].rows.length;
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    table.tHead.querySelectorAll("button").forEach((button, column) =>
      button.addEventListener("click", () => sort(table, column, button)));
  }
  for (const field of document.querySelectorAll("input[data-table]")) {
    field.addEventListener("input", () => filter(field));
    if (field.value) filter(field);
  }
})();
