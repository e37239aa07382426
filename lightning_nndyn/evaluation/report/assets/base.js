// What all charts share: the data, elements made without markup, and numbers in words.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
const el = (name, attributes = {}, ...children) => filled(document.createElement(name), attributes, children);
const sv = (name, attributes = {}, ...children) => filled(document.createElementNS(SVG, name), attributes, children);

const known = (value) => value !== null && value !== undefined;
const percent = (value, digits = 1) => (known(value) ? `${(100 * value).toFixed(digits)} %` : "not known");
const short = (value) => (known(value) ? String(Number(value.toPrecision(4))) : "not known");

const FRACTIONS = new Map([[1 / 16, "1/16"], [1 / 8, "1/8"], [1 / 4, "1/4"], [1 / 2, "1/2"], [3 / 4, "3/4"]]);
const epochText = (time) => FRACTIONS.get(time) ?? String(Number(time.toFixed(3)));
const epochs = (time) => `${epochText(time)} epoch${time > 1 || time === 0 ? "s" : ""}`;

const OUTCOMES = { good: "good", low: "low", unknown: "end not known" };
const state = { run: data.chosen, axis: "log" };
const charts = [];

// A chart draws itself into its place, and marks the run that is chosen.
function chart(draw, mark = () => {}) {
  charts.push({ draw, mark });
}

function redraw() {
  for (const one of charts) {
    one.draw();
    one.mark();
  }
}

function choose(run) {
  state.run = run;
  for (const one of charts) one.mark();
}

// Rows of a table that is read instead of a chart; made when somebody opens it.
function numbers(id, columns, rows) {
  const place = byId(id);
  if (!place) return;
  const fill = () => {
    if (!place.open) return;
    const head = el("tr", {}, ...columns.map(([name, kind]) => el("th", { scope: "col", class: kind }, name)));
    const body = rows().map((row) =>
      el("tr", {}, ...row.map((cell, i) => (i ? el("td", { class: columns[i][1] }, cell) : el("th", { scope: "row" }, cell)))));
    const table = el("table", {}, el("thead", {}, head), el("tbody", {}, ...body));
    const name = place.querySelector("summary").textContent;
    const box = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name }, table);
    place.querySelector(".scroll")?.remove();
    place.append(box);
  };
  place.addEventListener("toggle", fill);
  return fill;
}
