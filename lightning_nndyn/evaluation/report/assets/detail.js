// One run at a time, chosen in the list, in the ledger or in a chart.
(() => {
  const select = byId("run-select"), host = byId("run-chart"), body = byId("run-verdicts"), facts = byId("run-facts");
  const heading = byId("run-heading");
  const run = () => data.runs[state.run];

  function draw() {
    const one = run(), last = Math.max(1, one.epochs, ...one.verdicts.map(([time]) => time));
    const frame = plot(host, {
      label: `Predicted and validation accuracy of ${one.label} over epochs; the numbers follow in a table`,
      height: 260, xTitle: "epoch", yTitle: "accuracy, %",
      x: (from, to) => epochScale(last, from, to),
      y: (from, to) => scale(0, 1, from, to, (value) => String(Math.round(100 * value))),
    });
    const place = ([time, value]) => [frame.x(time), frame.y(value)];
    const said = one.verdicts.map(([time, predicted]) => [time, predicted]).map(place);
    frame.body.append(sv("path", { class: `line thick ${one.outcome === "unknown" ? "good" : one.outcome}`, d: path(curvePoints(one).map(place)) }));
    frame.body.append(sv("path", { class: "said", d: path(said) }));
    for (const [x, y] of said) frame.body.append(sv("rect", { class: "moment", x: x - 4, y: y - 4, width: 8, height: 8 }));
    if (one.stop) {
      frame.body.append(sv("line", { class: "bound", x1: frame.x(one.time), x2: frame.x(one.time), y1: MARGIN.top, y2: frame.bottom }));
      frame.body.append(sv("text", { class: "strong", x: frame.x(one.time) + 4, y: MARGIN.top + 10 }, one.fate));
    }
  }

  function list() {
    heading.textContent = `Run ${run().label}`;
    facts.replaceChildren(...run().facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
    body.replaceChildren(...run().verdicts.map(([time, predicted, low, risk, kind, inside, note]) => el("tr", {},
      el("th", { scope: "row", class: "n" }, epochText(time)), el("td", { class: "n" }, percent(predicted)), el("td", { class: "n" }, low.toFixed(2)),
      el("td", { class: "n" }, risk.toFixed(2)), el("td", {}, ({ fused: "weights and curve", curve: "curve" })[kind] ?? "weights"),
      el("td", {}, inside ? "yes" : "no"), el("td", {}, note))));
    byId("run-silent").hidden = run().verdicts.length > 0;
    select.value = String(state.run);
    for (const row of document.querySelectorAll("#ledger-table tr.chosen")) row.classList.remove("chosen");
    byId(`row-${state.run}`)?.classList.add("chosen");
  }

  chart(draw, () => { draw(); list(); });
  select.addEventListener("change", () => choose(Number(select.value)));

  function follow(jump) {
    const found = /^#run-(\d+)$/.exec(location.hash);
    if (!found || !data.runs[Number(found[1])]) return;
    choose(Number(found[1]));
    if (jump) {
      byId("run").scrollIntoView();
      heading.focus({ preventScroll: true });
    }
  }
  window.addEventListener("hashchange", () => follow(true));
  window.addEventListener("load", () => follow(true));
})();
