// How the signature's ten statistics moved: one small chart each.
(() => {
  const host = byId("signature-charts");
  if (!host) return;
  const last = data.runs.reduce((most, run) => run.times.reduce((a, b) => Math.max(a, b), most), 1);
  const cells = data.statistics.map((name) => {
    const place = el("div", { class: "chart" });
    host.append(place);
    return { name, place, frame: null };
  });

  // The middle 98 % of all values: a diverged run must not flatten the others.
  function range(k) {
    const values = data.runs.flatMap((run) => run.signature.map((row) => row[k])).filter(known).sort((a, b) => a - b);
    if (!values.length) return [0, 1];
    const low = values[Math.floor(0.01 * (values.length - 1))], high = values[Math.ceil(0.99 * (values.length - 1))];
    const room = 0.05 * (high - low) || Math.abs(high) || 1;
    return [low - room, high + room];
  }

  function medians(outcome, k) {
    const found = new Map();
    for (const run of data.runs) {
      if (run.outcome !== outcome) continue;
      run.times.forEach((time, i) => {
        const value = run.signature[i][k];
        if (!known(value)) return;
        if (found.has(time)) found.get(time).push(value);
        else found.set(time, [value]);
      });
    }
    const most = Math.max(0, ...[...found.values()].map((values) => values.length));
    return [...found.entries()].filter(([, values]) => values.length >= Math.max(2, most / 2)).sort((a, b) => a[0] - b[0])
      .map(([time, values]) => [time, values.sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)]]);
  }

  const pieces = (run, k, frame) => run.times.map((time, i) => [time, run.signature[i][k]]).filter(([, value]) => known(value))
    .map(([time, value]) => [frame.x(time), frame.y(value)]);

  cells.forEach((cell, k) => {
    const title = cell.name.replace("_", ": ").replace("std", "std. deviation");
    let clip = "";
    chart(() => {
      const [low, high] = range(k);
      const frame = cell.frame = plot(cell.place, {
        height: 200, label: `${title} over epochs; ${host.dataset.label}`, xTitle: "epoch", yTitle: title,
        x: (from, to) => epochScale(last, from, to), y: (from, to) => scale(low, high, from, to, short, 4),
      });
      const box = sv("rect", { x: MARGIN.left, y: MARGIN.top, width: frame.right - MARGIN.left, height: frame.bottom - MARGIN.top });
      clip = `url(#clip-${k})`;
      frame.svg.prepend(sv("clipPath", { id: `clip-${k}` }, box));
      frame.body.setAttribute("clip-path", clip);
      frame.over.setAttribute("clip-path", clip);
      for (const outcome of ["unknown", "low", "good"]) {
        const all = data.runs.filter((run) => run.outcome === outcome).map((run) => path(pieces(run, k, frame))).join("");
        frame.body.append(sv("path", { class: `line thin ${outcome}`, d: all }));
      }
      for (const outcome of ["low", "good"]) {
        const middle = medians(outcome, k).map(([time, value]) => [frame.x(time), frame.y(value)]);
        frame.body.append(sv("path", { class: `line thick ${outcome}`, d: path(middle) }));
      }
    }, () => {
      const own = pieces(data.runs[state.run], k, cell.frame);
      cell.frame.over.replaceChildren(sv("path", { class: "chosen-line", d: path(own) }));
    });
  });

  numbers("signature-numbers", [["statistic"], ["after epochs", "n"], ["median of good runs", "n"], ["median of low runs", "n"]], () =>
    data.statistics.flatMap((name, k) => {
      const [good, low] = ["good", "low"].map((outcome) => new Map(medians(outcome, k)));
      const times = [...new Set([...good.keys(), ...low.keys()])].sort((a, b) => a - b);
      return times.map((time) => [name, epochText(time), good.has(time) ? short(good.get(time)) : "-", low.has(time) ? short(low.get(time)) : "-"]);
    }));
})();
