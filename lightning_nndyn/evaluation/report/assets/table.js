// Tables that are sorted by a click or a key press on a column's head, and the ledger's filter.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button")?.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const numeric = head.classList.contains("n");
      const order = (a, b) => {
        const [one, other] = [value(a), value(b)];
        if (!numeric) return (up ? 1 : -1) * one.localeCompare(other, "en", { numeric: true });
        if (one === "" || other === "") return (one === "") - (other === ""); // what is not known comes last
        return (up ? 1 : -1) * (Number(one) - Number(other));
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
    });
  });
}

(() => {
  const filter = byId("ledger-filter"), told = byId("ledger-told");
  if (!filter) return;
  const rows = [...document.querySelectorAll("#ledger-table tbody tr")];
  filter.addEventListener("change", () => {
    for (const row of rows) row.hidden = filter.value !== "all" && !row.dataset.kinds.split(" ").includes(filter.value);
    told.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} runs shown`;
  });
})();
