"use strict";
// Shows the chosen measure, and hides the curves that were clicked. Plots and tables come from Python.
const FIGURES = JSON.parse(document.getElementById("figures").textContent);
const hidden = new Set();
const all = (selector) => document.querySelectorAll(selector);
const picked = (id) => document.getElementById(id)?.value;

function draw() {
  const measure = picked("measure"), figures = FIGURES[measure], narrow = window.innerWidth < 640;
  for (const chart of all(".chart")) {
    const figure = figures[chart.dataset.channel];
    chart.parentElement.hidden = !figure;
    if (!figure) continue;
    const traces = figure.data.filter((trace) => !hidden.has(trace.name));
    Plotly.react(chart, traces, { ...figure.layout, dragmode: narrow ? false : "zoom" }, {
      responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover",
      // Named one by one: among plotly's own buttons is one that sends the data to its makers.
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
      toImageButtonOptions: { format: "svg", filename: `${measure}-${chart.dataset.channel}` },
    });
  }
  const known = new Set(Object.values(figures).flatMap((figure) => figure.data.map((trace) => trace.name)));
  for (const button of all("#legend button")) {
    button.hidden = !known.has(button.dataset.curve);
    button.setAttribute("aria-pressed", String(!hidden.has(button.dataset.curve)));
  }
  for (const part of all("[data-measure]")) part.hidden = part.dataset.measure !== measure;
  for (const cell of all("th[data-curve], td[data-curve]")) cell.hidden = hidden.has(cell.dataset.curve);
}

function pictures() {
  for (const body of all(".pictures tbody[data-channel]")) {
    body.hidden = body.dataset.channel !== picked("picture-channel") || body.dataset.snr !== picked("picture-snr");
  }
}

for (const button of all("#legend button")) {
  button.addEventListener("click", () => {
    if (!hidden.delete(button.dataset.curve)) hidden.add(button.dataset.curve);
    draw();
  });
}
document.getElementById("measure").addEventListener("change", draw);
for (const picker of all(".pickers select")) picker.addEventListener("change", pictures);
draw();
pictures();
