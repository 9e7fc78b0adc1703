// A table that is wider than a narrow screen is stacked (`pages.css`): its rows become
// blocks, in which each cell needs the heading of its column.
addEventListener("load", () => {
  const narrow = matchMedia("(max-width: 46em)");
  const stack = () => {
    if (!narrow.matches) return;
    for (const table of document.querySelectorAll("table.docutils:not(.stacked)")) {
      const room = table.closest(".table-wrapper") ?? table.parentElement;
      const heads = [...(table.tHead?.rows[0]?.cells ?? [])].map((c) => c.innerText);
      if (!heads.length || room.scrollWidth <= room.clientWidth + 1) continue;
      table.classList.add("stacked");
      for (const cell of [...table.tBodies[0].rows].flatMap((row) => [...row.cells])) {
        cell.dataset.head = heads[cell.cellIndex].replace(/\s+/g, " ");
        cell.classList.toggle("empty", !cell.textContent.trim());
      }
    }
  };
  stack();
  narrow.addEventListener("change", stack);

  // What a command prints is set smaller where its lines are too long for the page.
  for (const output of document.querySelectorAll(".cell_output pre")) {
    const share = output.clientWidth / output.scrollWidth;
    if (share >= 1) continue;
    const size = parseFloat(getComputedStyle(output).fontSize);
    output.style.fontSize = `${size * Math.max(share * 0.98, 0.7)}px`;
  }
});
