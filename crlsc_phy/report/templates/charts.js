"use strict";
// Plots and tables of the chosen measure, from the JSON in the page. Every number shown stands there.
const DATA = JSON.parse(document.getElementById("data").textContent);
const hidden = new Set();
const paths = {
  circle: "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z", square: "M-3.6,-3.6h7.2v7.2h-7.2z", diamond: "M0,-5L5,0L0,5L-5,0z",
  "triangle-up": "M0,-4.5L4.5,3.5H-4.5z", pentagon: "M0,-4.8L4.6,-1.5L2.8,3.9H-2.8L-4.6,-1.5z",
  cross: "M-1.6,-4.5h3.2v2.9h2.9v3.2h-2.9v2.9h-3.2v-2.9h-2.9v-3.2h2.9z",
  x: "M-4,-2L-2,-4L0,-2L2,-4L4,-2L2,0L4,2L2,4L0,2L-2,4L-4,2L-2,0z",
  star: "M0,-5L1.3,-1.6L5,-1.5L2.1,0.8L3.1,4.4L0,2.3L-3.1,4.4L-2.1,0.8L-5,-1.5L-1.3,-1.6z",
};

function make(tag, text, parent) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

function figure(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const text = size >= 1000 ? Math.round(value).toLocaleString("en") : size >= 1 ? value.toFixed(2)
    : size >= 1e-3 || size === 0 ? value.toFixed(3) : value.toExponential(2);
  return text.replace("-", "−");
}

function counted(values, index) {
  const n = values.n[index], events = values.events[index];
  if (!n) return "";
  return events === null ? `n = ${n.toLocaleString("en")}` : `${events.toLocaleString("en")} of ${n.toLocaleString("en")}`;
}

function interval(values, index) {
  return values.low[index] === null ? "" : `${figure(values.low[index])} to ${figure(values.high[index])}`;
}

// A rate of 0 has no place on a logarithmic axis: an arrow at the interval's upper end stands for it.
function traces(line, measure) {
  const values = line.values[measure], look = DATA.curves[line.curve], log = DATA.measures[measure].log;
  const y = values.value.map((value) => (log && value === 0 ? null : value));
  const hover = values.value.map((value, i) =>
    [`<b>${escaped(line.curve)}</b>`, `${line.snr[i]} dB: ${figure(value)}`, interval(values, i), counted(values, i)]
      .filter(Boolean).join("<br>"));
  const common = { type: "scatter", name: line.curve, x: line.snr, text: hover, hoverinfo: "text", showlegend: false };
  const found = [{
    ...common, y, mode: "lines+markers", connectgaps: false,
    line: { color: look.colour, width: 2, dash: look.imported ? "dash" : "solid" },
    marker: { color: look.own ? look.colour : "#fff", symbol: look.symbol, size: 8, line: { color: look.colour, width: 1.5 } },
    error_y: {
      type: "data", symmetric: false, color: look.colour, thickness: 1.2, width: 3,
      array: values.high.map((end, i) => (y[i] === null || end === null ? 0 : Math.max(end - y[i], 0))),
      arrayminus: values.low.map((end, i) => (y[i] === null || end === null ? 0 : Math.max(y[i] - end, 0))),
    },
  }];
  if (y.some((value, i) => value === null && values.value[i] === 0)) {
    found.push({
      ...common, y: values.high.map((end, i) => (values.value[i] === 0 ? end : null)), mode: "markers",
      marker: { color: look.colour, symbol: "arrow-down", size: 10 },
    });
  }
  return found;
}

function escaped(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

// Whole decades, so that a logarithmic axis has ticks to read; all of 0 to 1 for a rate.
function range(lines, measure) {
  const { log, rate } = DATA.measures[measure];
  if (rate) return { range: [-0.03, 1.03] };
  if (!log) return {};
  const ends = lines.flatMap((line) => [...line.values[measure].value, ...line.values[measure].high, ...line.values[measure].low])
    .filter((value) => value > 0).map(Math.log10);
  return { range: [Math.floor(Math.min(...ends, -1)), Math.ceil(Math.max(...ends))], exponentformat: "power", dtick: 1 };
}

function layout(lines, measure) {
  const { title, unit, log } = DATA.measures[measure];
  const narrow = window.innerWidth < 640;
  const axis = { gridcolor: "#e6e9ed", linecolor: "#8a929c", ticks: "outside", tickcolor: "#8a929c", zeroline: false, automargin: true };
  return {
    xaxis: { ...axis, title: { text: "E<sub>s</sub>/N<sub>0</sub> [dB]", standoff: 8 } },
    yaxis: {
      ...axis, title: { text: unit ? `${title} [${unit}]` : title, standoff: 8 }, type: log ? "log" : "linear",
      ...range(lines, measure),
    },
    font: { family: "system-ui, sans-serif", size: narrow ? 12 : 13, color: "#1f2430" },
    margin: { l: 56, r: 12, t: 16, b: 48 }, hovermode: "closest", plot_bgcolor: "#fff", paper_bgcolor: "#fff",
    hoverlabel: { bgcolor: "#fff", bordercolor: "#8a929c", align: "left", font: { color: "#1f2430" } },
    dragmode: narrow ? false : "zoom",
  };
}

function shown(channel, measure) {
  return DATA.lines.filter((line) => line.channel === channel && measure in line.values && !hidden.has(line.curve));
}

function table(channel, measure) {
  const lines = shown(channel, measure);
  const grid = make("table");
  grid.className = "figures";
  const head = make("tr", undefined, make("thead", undefined, grid));
  make("th", "Es/N0 [dB]", head);
  for (const line of lines) make("th", line.curve, head);
  const body = make("tbody", undefined, grid);
  const snrs = [...new Set(lines.flatMap((line) => line.snr))].sort((a, b) => a - b);
  for (const snr of snrs) {
    const row = make("tr", undefined, body);
    make("th", String(snr).replace("-", "−"), row);
    for (const line of lines) {
      const index = line.snr.indexOf(snr), values = line.values[measure];
      const cell = make("td", figure(values.value[index]), row);
      const small = index < 0 ? "" : interval(values, index);
      if (small) make("small", small, cell);
      if (index >= 0) cell.title = counted(values, index);
    }
  }
  return grid;
}

function draw() {
  const measure = document.getElementById("measure").value;
  DATA.channels.forEach((channel, number) => {
    const lines = shown(channel, measure), there = DATA.lines.some((line) => line.channel === channel && measure in line.values);
    document.getElementById(`figure-${number}`).hidden = !there;
    const place = document.getElementById(`table-${number}`);
    if (place) place.hidden = !there;
    if (!there) return;
    Plotly.react(`chart-${number}`, lines.flatMap((line) => traces(line, measure)), layout(lines, measure), {
      responsive: true, displaylogo: false, displayModeBar: window.innerWidth >= 640 && "hover",
      // Named one by one: among plotly's own is one that sends the data to its makers.
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
      toImageButtonOptions: { format: "svg", filename: `${measure}-${channel}` },
    });
    if (place) place.querySelector(".scroll").replaceChildren(table(channel, measure));
  });
  for (const button of document.querySelectorAll("#legend button")) {
    button.hidden = !DATA.lines.some((line) => line.curve === button.dataset.curve && measure in line.values);
  }
  for (const part of document.querySelectorAll("[data-measure]")) part.hidden = part.dataset.measure !== measure;
}

function legend() {
  const place = document.getElementById("legend");
  for (const [name, look] of Object.entries(DATA.curves)) {
    const button = make("button", undefined, place);
    button.type = "button";
    button.dataset.curve = name;
    button.setAttribute("aria-pressed", "true");
    button.innerHTML = `<svg width="30" height="12" viewBox="-15 -6 30 12" aria-hidden="true"><path d="M-15,0H15" ` +
      `stroke="${look.colour}" stroke-width="2" ${look.imported ? 'stroke-dasharray="4 3"' : ""}/><path d="${paths[look.symbol]}" ` +
      `fill="${look.own ? look.colour : "#fff"}" stroke="${look.colour}" stroke-width="1.3"/></svg>`;
    make("span", look.imported ? `${name} (imported)` : name, button);
    button.addEventListener("click", () => {
      if (!hidden.delete(name)) hidden.add(name);
      button.setAttribute("aria-pressed", String(!hidden.has(name)));
      draw();
    });
  }
}

function pictures() {
  const channel = document.getElementById("picture-channel"), snr = document.getElementById("picture-snr");
  if (!channel) return;
  for (const body of document.querySelectorAll(".pictures tbody[data-channel]")) {
    body.hidden = body.dataset.channel !== channel.value || body.dataset.snr !== snr.value;
  }
}

legend();
draw();
pictures();
document.getElementById("measure").addEventListener("change", draw);
for (const picker of document.querySelectorAll(".pickers select")) picker.addEventListener("change", pictures);
