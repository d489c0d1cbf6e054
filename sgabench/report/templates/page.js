const dark = matchMedia("(prefers-color-scheme: dark)");
const settings = JSON.parse(document.getElementById("settings").textContent);
const theme = () => settings.templates[dark.matches ? "dark" : "light"];
const plots = [...document.querySelectorAll(".plot")];
const tables = [];
const lengths = new Map();
const PRINTED = 700; // pixels: what fits on paper
let closed = [];
let axis = "ratio";

async function unpack(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

function add(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  document.head.append(element);
}

function against(figure) {
  const title = axis === "ratio" ? figure.layout.meta.ratio : settings.axes[axis];
  return [figure.data.map((trace) => trace.meta[axis]), { text: title }];
}

function draw(plot) {
  if (plot.dataset.drawn) return;
  plot.dataset.drawn = "yes";
  const figure = JSON.parse(document.getElementById(plot.id + "-data").textContent);
  if (plot.dataset.kind === "curves") {
    const [xs, title] = against(figure);
    figure.data.forEach((trace, i) => { trace.x = xs[i]; });
    figure.layout.xaxis.title = title;
  }
  const layout = { ...figure.layout, template: theme() };
  Plotly.newPlot(plot, figure.data, layout, {
    responsive: true,
    displaylogo: false,
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["sendChartToCloud", "sendDataToCloud", "select2d", "lasso2d", "autoScale2d"],
  });
  const [picture, ...others] = plot.querySelectorAll("svg.main-svg");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", plot.dataset.alt);
  others.forEach((other) => other.setAttribute("aria-hidden", "true"));
}

function redraw(template, width = null) {
  document.documentElement.classList.toggle("dark", template === settings.templates.dark);
  for (const plot of plots) if (plot.dataset.drawn) Plotly.relayout(plot, { template, width, autosize: !width });
}

function startFigures() {
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { draw(entry.target); seen.unobserve(entry.target); }
  }, { rootMargin: "400px" });
  plots.forEach((plot) => seen.observe(plot));
  document.querySelector("[data-switch]")?.addEventListener("change", (event) => {
    axis = event.target.value;
    for (const plot of plots) {
      if (plot.dataset.kind !== "curves" || !plot.dataset.drawn) continue;
      const [xs, title] = against(plot);
      Plotly.update(plot, { x: xs }, { "xaxis.title": title, "xaxis.autorange": true });
    }
  });
}

// DataTables compares texts, but shows labels as HTML.
function values(table, column) {
  const cells = [...table.tBodies[0].rows].map((row) => row.cells[column]);
  const labels = new Map(cells.map((cell) => [cell.textContent, cell.innerHTML]));
  return [...labels].map(([value, label]) => ({ value, label: label || "(empty)" }));
}

function startTables(DataTable) {
  for (const table of document.querySelectorAll("table[data-filters]")) {
    const filters = table.dataset.filters.split(" ").filter(Boolean).map(Number);
    const long = table.tBodies[0].rows.length > settings.pageLength;
    tables.push(new DataTable(table, {
      order: [],
      paging: long,
      pageLength: settings.pageLength,
      lengthMenu: [settings.pageLength, 100, { label: "all", value: -1 }],
      info: long,
      autoWidth: false,
      ordering: { indicators: false, handler: false },
      columnControl: ["order"],
      columnDefs: filters.map((i) => ({ targets: i, columnControl: ["order", [{ extend: "searchList", options: values(table, i) }]] })),
      layout: { topStart: long ? "pageLength" : null, topEnd: "search", bottomStart: long ? "info" : null, bottomEnd: long ? "paging" : null },
    }));
  }
}

function printing() {
  plots.forEach(draw);
  redraw(settings.templates.light, PRINTED);
  closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach((part) => { part.open = true; });
  for (const table of tables) {
    lengths.set(table, table.page.len());
    table.page.len(-1).draw();
  }
}

function printed() {
  redraw(theme());
  closed.forEach((part) => { part.open = false; });
  for (const table of tables) table.page.len(lengths.get(table)).draw();
}

try {
  add("style", await unpack("datatables-style"));
  document.documentElement.classList.toggle("dark", dark.matches);
  const library = URL.createObjectURL(new Blob([await unpack("datatables")], { type: "text/javascript" }));
  startTables((await import(library)).default);
  add("script", await unpack("plotly"));
  startFigures();
  dark.addEventListener("change", () => redraw(theme()));
  addEventListener("beforeprint", printing);
  addEventListener("afterprint", printed);
  document.documentElement.dataset.ready = "yes";
} catch (error) {
  const trouble = document.getElementById("trouble");
  trouble.textContent = "Figures and sorting do not work in this browser (" + error.message + "); the tables are complete.";
  trouble.hidden = false;
}
