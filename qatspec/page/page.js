"use strict";
// Charts are drawn by Vega; this file sorts and searches tables and zooms the graph.
const data = id => JSON.parse(document.getElementById(id).textContent);

async function drawCharts() {
  const charts = data("charts"), config = data("configuration");
  for (const [id, spec] of Object.entries(charts)) {
    const options = { actions: false, renderer: "svg", config, tooltip: { theme: "custom" } };
    await vegaEmbed(document.getElementById(id), spec, options);
  }
  document.body.dataset.drawn = "true";
}

function cellValue(row, column) {
  const cell = row.cells[column], number = Number(cell.dataset.value);
  if (cell.dataset.value === "") return null;
  return cell.dataset.value === undefined || Number.isNaN(number) ? cell.textContent.trim() : number;
}

function sortBy(table, column, header) {
  const descending = header.getAttribute("aria-sort") === "ascending";
  const rows = [...table.tBodies[0].rows].map(row => [cellValue(row, column), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // what is unknown comes last
    const order = typeof a === "number" ? a - b : String(a).localeCompare(String(b));
    return descending ? -order : order;
  });
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    button.addEventListener("click", () => sortBy(table, column, header));
    header.replaceChildren(button);
  });
}

function makeSearchable(input) {
  const table = document.getElementById(input.dataset.table), rows = [...table.tBodies[0].rows];
  const count = input.parentElement.querySelector("output");
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
    count.textContent = `${rows.filter(row => !row.hidden).length} of ${rows.length}`;
  });
}

function makeZoomable(tools) {
  const graph = document.getElementById(tools.dataset.graph), svg = graph.querySelector("svg");
  const natural = svg.viewBox.baseVal.width;
  let width = Math.min(natural, graph.clientWidth);
  const zoom = factor => {
    const old = width;
    width = Math.min(4 * natural, Math.max(graph.clientWidth / 2, width * factor));
    const middle = graph.scrollLeft + graph.clientWidth / 2, above = graph.scrollTop + graph.clientHeight / 2;
    svg.style.width = `${width}px`;
    graph.scrollTo(middle * width / old - graph.clientWidth / 2, above * width / old - graph.clientHeight / 2);
  };
  svg.removeAttribute("width");
  svg.removeAttribute("height");
  svg.style.width = `${width}px`;
  const actions = { in: () => zoom(1.5), out: () => zoom(1 / 1.5), fit: () => zoom(graph.clientWidth / width) };
  for (const button of tools.querySelectorAll("button")) button.addEventListener("click", actions[button.value]);
  graph.addEventListener("wheel", event => {
    if (!event.shiftKey) return;
    event.preventDefault();
    zoom(event.deltaY + event.deltaX < 0 ? 1.15 : 1 / 1.15);
  }, { passive: false });
  graph.addEventListener("keydown", event => {
    if (event.key === "+") zoom(1.5);
    if (event.key === "-") zoom(1 / 1.5);
  });
  tools.querySelector("select").addEventListener("change", event => {
    graph.classList.toggle("by-noise", event.target.value === "noise");
  });
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
document.querySelectorAll("input[data-table]").forEach(makeSearchable);
document.querySelectorAll(".tools[data-graph]").forEach(makeZoomable);
drawCharts();
