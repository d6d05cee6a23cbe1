// The network layer by layer: a statistic at a step in the table, a layer over the steps beside it.
"use strict";
(() => {
  const data = document.getElementById("layer-data");
  if (!data) return;
  const view = JSON.parse(data.textContent);
  const table = document.getElementById("layer-table"), figure = document.getElementById("drawn");
  const [statistic, step, layer] = ["statistic", "step", "layer"].map(id => document.getElementById(id));
  const output = document.querySelector("output"), legend = document.getElementById("legend");
  const controls = document.querySelector(".controls"), svg = figure.querySelector("svg");
  const rows = [...table.querySelectorAll("tr[data-layer]")];
  const optimizers = view.columns.map((column, k) => [column, k]).filter(([column]) => !column.ratio);

  const chosen = () => view.statistics[statistic.selectedIndex];
  const layerName = k => view.layers[k].filter(part => part !== "").join(": ");

  function offer(select, names) {
    select.replaceChildren(...names.map(name => new Option(name)));
  }

  // Keeps the step, or the nearest one at which this statistic was recorded.
  function chooseStatistic() {
    const wanted = Number(output.value), steps = chosen().steps;
    const distances = steps.map(s => Math.abs(s - wanted));
    step.max = steps.length - 1;
    step.value = distances.indexOf(Math.min(...distances));
    legend.replaceChildren(...chosen().legends.map(({ title, ends, colors }) => {
      const item = document.createElement("span"), bar = document.createElement("i");
      bar.style.background = `linear-gradient(to right, ${colors.join(", ")})`;
      item.append(`${title}: ≤ ${ends[0]}`, bar, `≥ ${ends[1]}`);
      return item;
    }));
    fill();
    draw();
  }

  function fill() {
    const { title, steps, cells, legends } = chosen();
    output.value = steps[step.value];
    table.caption.textContent = `${title} at step ${output.value}`;
    for (const row of rows)
      cells[step.value][row.dataset.layer].forEach(([, text, color], k) => {
        const cell = row.cells[k + 2];
        cell.textContent = text;
        cell.style.background = color || "none";
        cell.hidden = view.columns[k].ratio && legends.length < 2;
      });
    for (const header of table.querySelectorAll("th.ratio")) header.hidden = legends.length < 2;
    table.dispatchEvent(new Event("refill"));
  }

  function draw() {
    const { title, steps, cells, logarithmic } = chosen(), k = layer.selectedIndex;
    const values = column => steps.map((_, s) => Number(cells[s][k][column][0]));
    drawChart(svg, {
      title: `${title}, ${layerName(k)}`,
      logarithmic,
      legend: optimizers.map(([column]) => column),
      losses: view.losses.map(line => ({ ...line, color: view.columns[line.column].color })),
      lines: optimizers.map(([column, c]) => ({ ...column, steps, values: values(c) })),
    });
    for (const row of rows) row.classList.toggle("chosen", Number(row.dataset.layer) === k);
    offerToSave(svg, figure, `${chosen().name}_${k + 1}`);
  }

  offer(statistic, view.statistics.map(({ title }) => title));
  offer(layer, view.layers.map((_, k) => layerName(k)));
  layer.selectedIndex = view.layers.length - 1;
  for (const row of rows) {
    const button = document.createElement("button"), cell = row.cells[1];
    button.type = "button";
    button.append(...cell.childNodes);
    cell.append(button);
    button.addEventListener("click", () => {
      layer.selectedIndex = Number(row.dataset.layer);
      draw();
    });
  }
  statistic.addEventListener("change", chooseStatistic);
  step.addEventListener("input", fill);
  layer.addEventListener("change", draw);
  output.value = Math.max(...chosen().steps);
  for (const part of [controls, figure, legend]) part.hidden = false;
  chooseStatistic();
})();
