// Validation accuracy of all runs, and when each was, or would have been, stopped.
function curvePoints(run) {
  return run.curve.map((value, i) => [Math.min(i + 1, run.epochs), value]).filter(([, value]) => known(value));
}

// What was predicted before the first validation, and that validation: the early epochs have no curve.
function earlyPoints(run) {
  const points = curvePoints(run), first = points.length ? points[0][0] : Infinity;
  const said = run.verdicts.filter(([time, predicted]) => time < first && known(predicted)).map(([time, predicted]) => [time, predicted]);
  return said.length && points.length ? [...said, points[0]] : said;
}

// Where a decision is marked: on the curve, or before its first point at that point's height.
function momentOf(run) {
  if (!run.stop) return null;
  const points = curvePoints(run);
  if (!points.length) return known(run.predicted) ? [run.time, run.predicted] : null;
  const next = points.findIndex(([epoch]) => epoch >= run.time);
  if (next === 0) return [run.time, points[0][1]];
  if (next < 0) return [run.time, points[points.length - 1][1]];
  const [[e0, v0], [e1, v1]] = [points[next - 1], points[next]];
  return [run.time, v0 + ((v1 - v0) * (run.time - e0)) / (e1 - e0)];
}

(() => {
  const host = byId("curves-chart");
  if (!host) return;
  const readout = byId("curves-readout");
  const last = Math.max(1, ...data.runs.map((run) => Math.max(run.epochs, run.stop ? run.time : 0)));
  const CROWD = 100; // runs from which on lines are thinner
  let frame = null;

  function drawRun(run, points, to) {
    const moment = momentOf(run);
    const before = moment ? points.filter(([epoch]) => epoch <= run.time) : points;
    const after = moment ? points.filter(([epoch]) => epoch > run.time) : [];
    const place = ([epoch, value]) => [frame.x(epoch), frame.y(value)];
    const early = earlyPoints(run);
    if (early.length > 1) to.append(sv("path", { class: `line early ${run.outcome}`, d: path(early.map(place)) }));
    if (before.length) to.append(sv("path", { class: `line ${run.outcome}`, d: path([...before, ...(moment ? [moment] : [])].map(place)) }));
    if (after.length) to.append(sv("path", { class: `line after ${run.outcome}`, d: path([moment, ...after].map(place)) }));
  }

  function drawMoment(run, to) {
    const moment = momentOf(run);
    if (!moment) return;
    const [x, y] = [frame.x(moment[0]), frame.y(moment[1])];
    to.append(sv("path", { class: run.status === "stopped" ? "moment done" : "moment", d: triangle(x, y) }));
    if (run.outcome === "good") to.append(sv("circle", { class: "ring", cx: x, cy: y - 1, r: 11 }));
  }

  chart(() => {
    frame = plot(host, {
      label: host.dataset.label, xTitle: "epoch", yTitle: `${data.metric}, %`, height: 380,
      x: (from, to) => epochScale(last, from, to),
      y: (from, to) => scale(0, 1, from, to, (value) => String(Math.round(100 * value))),
    });
    if (data.runs.length > CROWD) frame.body.setAttribute("class", "crowd");
    const points = [];
    data.runs.forEach((run, i) => {
      const own = curvePoints(run);
      drawRun(run, own, frame.body);
      for (const [epoch, value] of earlyPoints(run)) points.push({ x: frame.x(epoch), y: frame.y(value), run: i, epoch, value });
      for (const [epoch, value] of own) points.push({ x: frame.x(epoch), y: frame.y(value), run: i, epoch, value });
    });
    for (const run of data.runs) drawMoment(run, frame.body);
    hover(frame, points, readout, ({ run, epoch, value }) => `${data.runs[run].label}: ${percent(value)} after ${epochs(epoch)}`);
  }, () => {
    const run = data.runs[state.run];
    const own = curvePoints(run).map(([epoch, value]) => [frame.x(epoch), frame.y(value)]);
    frame.over.replaceChildren(sv("path", { class: "chosen-line", d: path(own) }));
    drawMoment(run, frame.over);
  });

  numbers("curves-numbers", [["run"], ["end"], ["decision"], ["after epochs", "n"], ["accuracy after each epoch, %"]], () =>
    data.runs.map((run) => [run.label, OUTCOMES[run.outcome], run.fate, run.stop ? epochText(run.time) : "", 
      run.curve.map((value) => (known(value) ? (100 * value).toFixed(1) : "-")).join(" ")]));
})();
