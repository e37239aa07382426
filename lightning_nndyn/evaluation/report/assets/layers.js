// The rolled graph, layer by layer: dots as large as the centrality that a share of the layer's nodes exceeds.
(() => {
  const host = byId("layers-chart");
  if (!host) return;
  const select = byId("layers-run"), slider = byId("layers-time"), shown = byId("layers-shown"), feature = byId("layers-feature");
  const QUANTILES = [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1];
  const MOST = 14, RADIUS = 11, NARROWEST = 118, TOP = 64, STEP = 2 * RADIUS + 3;
  let wide = NARROWEST;
  const run = () => data.runs[Number(select.value)];
  const moment = () => run().layers[Math.min(Number(slider.value), run().layers.length - 1)];
  const rowOf = (layer) => layer[feature.value];
  let fill = null;

  function between(row, share) {
    const next = Math.max(1, QUANTILES.findIndex((at) => at >= share));
    const part = (share - QUANTILES[next - 1]) / (QUANTILES[next] - QUANTILES[next - 1]);
    return row[next - 1] + part * (row[next] - row[next - 1]);
  }

  // One scale for all times of a run: growth must show.
  const largest = () => Math.max(...run().layers.flatMap((one) => one.rows.map((layer) => Math.max(...rowOf(layer)))), 1e-12);

  function column(layer, i, svg, most, middle) {
    const size = layer.size, count = Math.min(MOST, known(size) ? size : 7), row = rowOf(layer);
    const x = wide * i + wide / 2;
    const words = known(size) ? `${size.toLocaleString("en")} node${size === 1 ? "" : "s"}` : "size not recorded";
    svg.append(sv("text", { class: "strong", x, y: 16, "text-anchor": "middle" }, layer.name.length > 16 ? `…${layer.name.slice(-15)}` : layer.name));
    svg.append(sv("text", { x, y: 32, "text-anchor": "middle" }, words));
    svg.append(sv("text", { x, y: 48, "text-anchor": "middle" }, count < (size ?? 0) ? `${count} dots` : ""));
    for (let k = 0; k < count; k += 1) {
      const share = count === 1 ? 0.5 : 1 - (k + 0.5) / count;
      const radius = Math.max(0.8, RADIUS * Math.sqrt(Math.max(0, between(row, share)) / most));
      svg.append(sv("circle", { class: "node", cx: x, cy: middle + (k - (count - 1) / 2) * STEP, r: radius }));
    }
    return count;
  }

  function link(i, count, next, strength, svg, middle) {
    const [x0, x1] = [wide * i + wide / 2 + RADIUS + 3, wide * (i + 1) + wide / 2 - RADIUS - 3];
    const [h0, h1] = [(count * STEP) / 2, (next * STEP) / 2];
    const d = `M${x0} ${middle - h0}L${x1} ${middle - h1}L${x1} ${middle + h1}L${x0} ${middle + h0}Z`;
    svg.append(sv("path", { class: "link", d, "fill-opacity": (0.06 + 0.4 * strength).toFixed(3) }));
  }

  function draw() {
    const rows = moment().rows, counts = rows.map((layer) => Math.min(MOST, layer.size ?? 7));
    const height = TOP + Math.max(...counts) * STEP + 14, middle = TOP + (Math.max(...counts) * STEP) / 2;
    wide = Math.max(NARROWEST, Math.floor((host.clientWidth - 2) / rows.length));
    const width = wide * rows.length;
    const svg = sv("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${host.dataset.label}; the numbers follow in a table` });
    const strongest = Math.max(...rows.map((layer) => layer.norm), 1e-12);
    if (data.runs[Number(select.value)].chain) {
      for (let i = 0; i + 1 < rows.length; i += 1) link(i, counts[i], counts[i + 1], rows[i + 1].norm / strongest, svg, middle);
    }
    const most = largest();
    rows.forEach((layer, i) => column(layer, i, svg, most, middle));
    host.replaceChildren(svg);
  }

  function tell() {
    slider.max = run().layers.length - 1;
    shown.textContent = moment().time ? `after ${epochs(moment().time)}` : "before training";
    slider.setAttribute("aria-valuetext", shown.textContent);
    byId("layers-order").hidden = run().chain;
  }

  const again = () => {
    tell();
    draw();
    fill?.();
  };
  for (const [control, event] of [[select, "change"], [slider, "input"], [feature, "change"]]) control.addEventListener(event, again);
  select.addEventListener("change", () => choose(Number(select.value)));
  chart(again, () => {
    if (data.runs[state.run].layers.length && select.value !== String(state.run)) {
      select.value = String(state.run);
      again();
    }
  });
  fill = numbers("layers-numbers", [["layer"], ["nodes", "n"], ["least", "n"], ["10 %", "n"], ["25 %", "n"], ["median", "n"], ["75 %", "n"], ["90 %", "n"], ["most", "n"], ["norm of weights to it", "n"]], () =>
    moment().rows.map((layer) => [layer.name, known(layer.size) ? String(layer.size) : "-", ...rowOf(layer).map(short), short(layer.norm)]));
})();
