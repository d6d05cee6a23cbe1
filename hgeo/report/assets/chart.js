// A layer over the steps: the loss above, a statistic below, on one axis.
"use strict";
const drawChart = (() => {
  const WIDTH = 440, LEFT = 54, RIGHT = 430, PANEL = 145, GAP = 26, SIZE = 11;
  const SHAPES = {
    o: "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z", s: "M-3 -3h6v6h-6z",
    "^": "M0 -4l4 7h-8z", D: "M0 -4.5l4 4.5l-4 4.5l-4 -4.5z", v: "M0 4l4 -7h-8z",
    P: "M-1.3 -4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z",
    X: "M-4 -2l2 -2l2 2l2 -2l2 2l-2 2l2 2l-2 2l-2 -2l-2 2l-2 -2l2 -2z",
  };

  function niceTicks(low, high, most, least) {
    const raw = Math.max((high - low) / most, least), power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find(k => k * power >= raw * 0.999);
    const ticks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high * (1 + 1e-9) + 1e-12; k++)
      ticks.push(+(k * step).toPrecision(12));
    return ticks;
  }

  function logTicks(low, high) {
    const decades = Math.log10(high / low), ticks = [];
    const every = Math.ceil(decades / 6), parts = decades < 1.7 ? [1, 2, 5] : [1];
    for (let k = Math.floor(Math.log10(low)); k <= Math.ceil(Math.log10(high)); k++)
      if (k % every === 0) for (const part of parts) ticks.push(part * 10 ** k);
    return ticks.filter(t => t >= low * 0.999 && t <= high * 1.001);
  }

  function label(value) {
    const size = Math.abs(value);
    if (size !== 0 && (size >= 1e5 || size < 1e-3))
      return value.toExponential(1).replace(".0e", "e").replace("e+", "e");
    return String(+value.toPrecision(6));
  }

  // A scale from values to pixels with some room at its ends.
  function axis(values, from, to, logarithmic, most = 5, least = 0) {
    const finite = values.filter(v => Number.isFinite(v) && (v > 0 || !logarithmic));
    const place = logarithmic ? Math.log : v => v;
    let low = Math.min(...finite.map(place)), high = Math.max(...finite.map(place));
    if (!finite.length) [low, high] = [0, 1];
    if (logarithmic && high - low < Math.log(5))  // or no 1, 2 or 5 may lie between
      [low, high] = [(low + high - Math.log(5)) / 2, (low + high + Math.log(5)) / 2];
    const room = (high - low) * 0.06 || (logarithmic ? 0.3 : Math.abs(high) * 0.06 || 1);
    [low, high] = [low - room, high + room];
    return {
      at: v => from + (to - from) * (place(v) - low) / (high - low),
      ticks: logarithmic ? logTicks(Math.exp(low), Math.exp(high)) : niceTicks(low, high, most, least),
      fits: v => Number.isFinite(v) && (v > 0 || !logarithmic),
    };
  }

  // The names in rows that wrap: where each is written, and where the rows end.
  function legendPlaces(names) {
    let x = LEFT, y = 16;
    const places = names.map(name => {
      const width = 16 + 6.2 * name.length;
      if (x > LEFT && x + width > RIGHT) [x, y] = [LEFT, y + 16];
      const place = [x, y];
      x += width + 14;
      return place;
    });
    return [places, y];
  }

  function shorten(text, length) {
    const half = Math.floor((length - 1) / 2);
    return text.length > length ? `${text.slice(0, half)}…${text.slice(-half)}` : text;
  }

  // series: {title, logarithmic, legend: [{name, color, marker}],
  //          losses: [{color, steps, values}], lines: [{color, marker, steps, values}]}
  return (svg, series) => {
    const put = (name, attributes, text) => {
      const node = document.createElementNS(svg.namespaceURI, name);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      if (text !== undefined) node.textContent = text;
      svg.append(node);
    };
    const write = (x, y, text, more) =>
      put("text", { x, y, "font-size": SIZE, "font-family": "sans-serif", fill: "#1b1f24", ...more }, text);
    const mark = (shape, x, y, more) =>
      put("path", { d: SHAPES[shape], transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, ...more });

    const [places, below] = legendPlaces(series.legend.map(({ name }) => name));
    const tops = [below + GAP, below + 2 * GAP + PANEL], height = tops[1] + PANEL + 40;
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
    put("title", {}, series.title);
    put("rect", { width: WIDTH, height, fill: "#fff" });
    series.legend.forEach(({ name, color, marker }, k) => {
      const [x, y] = places[k];
      mark(marker, x + 5, y - 4, { fill: color });
      write(x + 14, y, name);
    });

    const steps = [...series.losses, ...series.lines].flatMap(line => line.steps);
    const x = axis(steps, LEFT, RIGHT, false, 6, 1);
    const panels = [
      ["training loss (nats)", series.losses, false],
      [series.title, series.lines, series.logarithmic],
    ];
    panels.forEach(([title, lines, logarithmic], panel) => {
      const top = tops[panel], bottom = top + PANEL;
      const y = axis(lines.flatMap(line => line.values), bottom, top, logarithmic);
      for (const tick of x.ticks) {
        const at = x.at(tick);
        put("line", { x1: at, x2: at, y1: top, y2: bottom, stroke: "#e6e8eb" });
        if (panel) write(at, bottom + 15, label(tick), { "text-anchor": "middle" });
      }
      for (const tick of y.ticks) {
        put("line", { x1: LEFT, x2: RIGHT, y1: y.at(tick), y2: y.at(tick), stroke: "#e6e8eb" });
        write(LEFT - 5, y.at(tick) + 4, label(tick), { "text-anchor": "end" });
      }
      put("rect", { x: LEFT, y: top, width: RIGHT - LEFT, height: PANEL, fill: "none", stroke: "#5a636c" });
      const scale = logarithmic ? " (log scale)" : "";
      write(LEFT, top - 6, shorten(title, 58 - scale.length) + scale, { "font-weight": 600 });
      for (const { color, marker, steps, values } of lines) {
        const points = steps.map((step, k) => [x.at(step), values[k]]);
        const drawn = points.filter(([, value]) => y.fits(value)).map(([at, value]) => [at, y.at(value)]);
        const path = drawn.map(([at, value]) => `${at.toFixed(1)} ${value.toFixed(1)}`).join("L");
        if (path)
          put("path", { d: `M${path}`, fill: "none", stroke: color, "stroke-width": 1.6, "stroke-linejoin": "round" });
        if (marker || drawn.length === 1)
          for (const [at, value] of drawn) mark(marker ?? "o", at, value, { fill: color });
        if (!marker) continue;
        for (const [at, value] of points)  // hollow at the top edge: not finite
          if (!Number.isFinite(value) && !Number.isNaN(value))
            mark(marker, at, top, { fill: "#fff", stroke: color, "stroke-width": 1.5 });
      }
    });
    write((LEFT + RIGHT) / 2, height - 8, "step (updates)", { "text-anchor": "middle" });
  };
})();
