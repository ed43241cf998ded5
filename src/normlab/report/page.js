// Tables are sorted by the column whose heading is pressed: by number where a cell has one, else by text.
"use strict";
for (const table of document.querySelectorAll("table:has(thead)")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    const value = (row) => row.cells[column].dataset.sort;
    button.addEventListener("click", () => {
      const rising = heading.getAttribute("aria-sort") !== "ascending";
      const compare = (one, other) => {
        const [a, b] = [value(one), value(other)];
        if (a !== undefined && b !== undefined) return (rising ? 1 : -1) * (Number(a) - Number(b));
        if (a !== undefined || b !== undefined) return a !== undefined ? -1 : 1;
        const texts = [one, other].map((row) => row.cells[column].textContent);
        return (rising ? 1 : -1) * texts[0].localeCompare(texts[1], "en", { numeric: true });
      };
      for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
      body.append(...[...body.rows].sort(compare));
    });
  });
}
