// Predicted against true accuracy, at a time that one chooses.
(() => {
  const host = byId("forecast-chart");
  if (!host) return;
  const slider = byId("forecast-time"), shown = byId("forecast-shown"), axis = byId("forecast-axis");
  const told = byId("forecast-told"), readout = byId("forecast-readout");
  const at = () => data.forecasts[Number(slider.value)];
  const verdictOf = (run) => run.verdicts.find(([time]) => time === at().time);
  const usable = () => data.runs.map((run, i) => [run, i, verdictOf(run)]).filter(([run, , verdict]) => run.finished && verdict);
  let frame = null, byRisk = false;

  const yOf = (verdict) => (byRisk ? Math.max(-4, Math.min(8, verdict[3])) : verdict[1]);

  function bounds() {
    const across = (y, text, below = 0) => frame.body.append(
      sv("line", { class: "bound", x1: frame.x(0), x2: frame.right, y1: frame.y(y), y2: frame.y(y) }),
      sv("text", { class: "strong", x: frame.right, y: frame.y(y) + (below ? 15 : -5), "text-anchor": "end" }, text));
    const kinds = new Set(usable().map(([, , verdict]) => verdict[4]));
    const limits = data.limits.filter(([kind]) => kinds.has(kind)).sort((a, b) => b[1] - a[1]);
    for (const bar of data.bars) {
      frame.body.append(sv("line", { class: "bound", x1: frame.x(bar), x2: frame.x(bar), y1: MARGIN.top, y2: frame.bottom }));
      frame.body.append(sv("text", { class: "strong", x: frame.x(bar) + 4, y: frame.bottom - 6 }, `low | good from ${percent(bar, 0)}`));
      if (!byRisk) across(bar, "predicted low below");
    }
    if (byRisk) {
      limits.forEach(([kind, limit], i) => across(limit, `stopped above ${limit.toFixed(2)}, ${({ fused: "with the curve", curve: "by the curve alone" })[kind] ?? "by weights alone"}`, i));
    }
    if (!byRisk) frame.body.append(sv("line", { class: "diagonal", x1: frame.x(0), y1: frame.y(0), x2: frame.x(1), y2: frame.y(1) }));
  }

  const tell = () => {
    const { time, runs, error, rank } = at();
    shown.textContent = `after ${epochs(time)}`;
    slider.setAttribute("aria-valuetext", shown.textContent);
    told.textContent = `After ${epochs(time)}: ${runs} runs with a prediction and a known end; mean error ` +
      `${(100 * error).toFixed(1)} points, rank correlation ${known(rank) ? rank.toFixed(2) : "not defined"}.`;
  };

  chart(() => {
    byRisk = axis.value === "risk";
    frame = plot(host, {
      label: `${host.dataset.label}, after ${epochs(at().time)}`, height: 400,
      xTitle: `best ${data.metric}, %`, yTitle: byRisk ? "risk, in standard deviations of good runs" : "predicted accuracy, %",
      x: (from, to) => scale(0, 1, from, to, (value) => String(Math.round(100 * value))),
      y: (from, to) => (byRisk ? scale(-4, 8, from, to, short, 6) : scale(0, 1, from, to, (value) => String(Math.round(100 * value)))),
    });
    bounds();
    const points = usable().map(([run, i, verdict]) => ({ x: frame.x(run.best), y: frame.y(yOf(verdict)), run: i, verdict }));
    for (const point of points) frame.body.append(spot(data.runs[point.run], point.x, point.y));
    hover(frame, points, readout, ({ run, verdict }) =>
      `${data.runs[run].label}: predicted ${percent(verdict[1])}, risk ${verdict[3].toFixed(2)}; ended at ${percent(data.runs[run].best)}`);
    tell();
  }, () => {
    const run = data.runs[state.run], verdict = verdictOf(run);
    frame.over.replaceChildren();
    if (run.finished && verdict) frame.over.append(sv("circle", { class: "ring", cx: frame.x(run.best), cy: frame.y(yOf(verdict)), r: 11 }));
  });

  const fill = numbers("forecast-numbers", [["run"], ["predicted, %", "n"], ["risk", "n"], ["true, %", "n"], ["end"]], () =>
    usable().map(([run, , verdict]) => [run.label, (100 * verdict[1]).toFixed(1), verdict[3].toFixed(2), (100 * run.best).toFixed(1), OUTCOMES[run.outcome]]));
  const again = () => {
    const one = charts[number];
    one.draw();
    one.mark();
    fill?.();
  };
  const number = charts.length - 1;
  slider.addEventListener("input", again);
  axis.addEventListener("change", again);
})();
