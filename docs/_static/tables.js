// Tables of four columns and more with long cells are stacked on narrow screens
// (`pages.css`): each cell then needs the heading of its column.
addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table.docutils")) {
    const heads = [...(table.tHead?.rows[0]?.cells ?? [])].map((c) => c.innerText);
    const cells = [...table.tBodies[0].rows].flatMap((row) => [...row.cells]);
    const long = cells.some((c) => c.cellIndex > 0 && c.textContent.length > 30);
    if (heads.length < 4 || !long) continue;
    table.classList.add("stacked");
    for (const cell of cells) {
      cell.dataset.head = heads[cell.cellIndex];
      cell.classList.toggle("empty", !cell.textContent.trim());
    }
  }
});
