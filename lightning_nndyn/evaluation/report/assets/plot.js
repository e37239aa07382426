// Axes, scales, and which point is nearest to the pointer.
const MARGIN = { left: 44, right: 14, top: 26, bottom: 42 };

// Early epochs take as much room as late ones: that is where decisions fall.
function epochScale(last, from, to) {
  const value = state.axis === "log" ? (time) => Math.log2(1 + 16 * time) : (time) => time;
  const span = value(last) || 1;
  const map = (time) => from + ((to - from) * value(time)) / span;
  const wanted = state.axis === "log"
    ? [0, 1 / 16, 1 / 4, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    : steps(0, last, Math.max(2, (to - from) / 70));
  const ticks = [];
  for (const at of wanted) {
    if (at <= last && (!ticks.length || map(at) - map(ticks[ticks.length - 1]) >= 30)) ticks.push(at);
  }
  return { map, ticks: ticks.map((at) => [at, epochText(at)]) };
}

function steps(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) found.push(Number((k * step).toPrecision(12)));
  return found;
}

function scale(low, high, from, to, text = short, count = 5) {
  const span = high - low || 1;
  return {
    map: (value) => from + ((to - from) * (value - low)) / span,
    ticks: steps(low, high, count).map((at) => [at, text(at)]),
  };
}

// An empty plot as wide as its place: {svg, body, over, x, y, width, height}.
function plot(host, { height = 340, label, x, y, xTitle, yTitle }) {
  const width = Math.max(150, host.clientWidth - 20);
  const right = width - MARGIN.right, bottom = height - MARGIN.bottom;
  const xs = x(MARGIN.left, right), ys = y(bottom, MARGIN.top);
  const svg = sv("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const [at, text] of ys.ticks) {
    svg.append(sv("line", { class: "gridline", x1: MARGIN.left, x2: right, y1: ys.map(at), y2: ys.map(at) }));
    svg.append(sv("text", { x: MARGIN.left - 6, y: ys.map(at) + 4, "text-anchor": "end" }, text));
  }
  for (const [at, text] of xs.ticks) {
    svg.append(sv("line", { class: "axis", x1: xs.map(at), x2: xs.map(at), y1: bottom, y2: bottom + 4 }));
    svg.append(sv("text", { x: xs.map(at), y: bottom + 18, "text-anchor": "middle" }, text));
  }
  svg.append(sv("line", { class: "axis", x1: MARGIN.left, x2: right, y1: bottom, y2: bottom }));
  svg.append(sv("text", { x: right, y: height - 6, "text-anchor": "end" }, xTitle));
  svg.append(sv("text", { x: 2, y: 14 }, yTitle));
  const body = sv("g"), over = sv("g");
  svg.append(body, over);
  host.replaceChildren(svg);
  return { svg, body, over, x: xs.map, y: ys.map, width, height, right, bottom };
}

const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

// Says what is under the pointer, and chooses it on a click. Keyboards choose in the ledger or the list of runs.
function hover(frame, points, readout, say) {
  const nearest = (event) => {
    const box = frame.svg.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    let found = null, least = 24 ** 2;
    for (const point of points) {
      const far = (point.x - x) ** 2 + (point.y - y) ** 2;
      if (far < least) [found, least] = [point, far];
    }
    return found;
  };
  frame.svg.addEventListener("pointermove", (event) => {
    const point = nearest(event);
    readout.textContent = point ? say(point) : readout.dataset.rest ?? "";
    frame.svg.style.cursor = point ? "pointer" : "";
  });
  frame.svg.addEventListener("click", (event) => {
    const point = nearest(event);
    if (!point) return;
    choose(point.run);
    readout.textContent = `${say(point)}. Chosen: marked in all charts, told under “One run”.`;
  });
}

// Marks that mean the same everywhere.
const triangle = (x, y, size = 6) => `M${x - size} ${y - size}L${x + size} ${y - size}L${x} ${y + size * 0.8}Z`;
const diamond = (x, y, size = 5.5) => `M${x} ${y - size}L${x + size} ${y}L${x} ${y + size}L${x - size} ${y}Z`;
const cross = (x, y, size = 7) => `M${x - size} ${y - size}L${x + size} ${y + size}M${x + size} ${y - size}L${x - size} ${y + size}`;

function spot(run, x, y) {
  const shape = run.outcome === "good"
    ? sv("circle", { class: "dot good", cx: x, cy: y, r: 4.5 })
    : sv("path", { class: `dot ${run.outcome}`, d: diamond(x, y) });
  return run.stop ? sv("g", {}, shape, sv("path", { class: "cross", d: cross(x, y) })) : shape;
}
