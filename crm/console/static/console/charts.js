// The history of one worker: four charts over the API's /metrics, drawn by uPlot.
(() => {
  "use strict";

  const PERIOD = "m-period"; // remembered in this browser
  const HEIGHT = 170;
  const card = document.getElementById("charts");
  if (!card) return;
  const figures = [...card.querySelectorAll("figure")];
  const buttons = [...card.querySelectorAll("[data-period]")];
  const empty = card.querySelector(".m-empty");
  const nothing = empty.textContent;
  const language = document.documentElement.lang || undefined;
  const charts = new Map();
  let period = "1h";
  let data = null;
  let timer = 0;

  // --- points --------------------------------------------------------------------------------------

  // Where steps have no point the worker did not run: a null keeps the line from bridging them. Up to
  // two may be missing on a busy host, whose samples come late.
  function columns(points, step) {
    const times = [];
    const values = [];
    for (const { time, value } of points) {
      const at = Date.parse(time) / 1000;
      if (times.length && at - times[times.length - 1] > 3.5 * step) {
        times.push(times[times.length - 1] + step);
        values.push(null);
      }
      times.push(at);
      values.push(value);
    }
    return [times, values];
  }

  const number = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });

  function said(figure, value, at) {
    const output = figure.querySelector("output");
    if (value == null) {
      output.textContent = "–";
      return;
    }
    const unit = figure.dataset.unit ? ` ${figure.dataset.unit}` : "";
    const clock = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" };
    const when = at ? ` · ${new Date(at * 1000).toLocaleString(language, clock)}` : "";
    output.textContent = number.format(value) + unit + when;
  }

  const lastOf = (chart) => {
    const values = chart.data[1];
    return values.length ? values[values.length - 1] : null;
  };

  // --- drawing -------------------------------------------------------------------------------------

  function options(figure, width) {
    const style = getComputedStyle(figure);
    const tone = style.getPropertyValue(`--m-${figure.dataset.tone}`).trim();
    const line = style.getPropertyValue("--m-line").trim();
    const quiet = style.getPropertyValue("--m-quiet").trim();
    const axis = { stroke: quiet, font: "11px system-ui", grid: { stroke: line, width: 1 }, ticks: { show: false } };
    const bars = "bars" in figure.dataset;
    const series = { stroke: tone, width: 1.5, fill: `color-mix(in oklab, ${tone} 14%, transparent)` };
    if (bars) Object.assign(series, { fill: tone, width: 0, paths: uPlot.paths.bars({ size: [0.8, 12, 1] }) });
    return {
      width,
      height: HEIGHT,
      legend: { show: false },
      padding: [8, 8, 4, 0],
      cursor: { sync: { key: "worker" }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: {
        x: { range: () => [Date.parse(data.since) / 1000, Date.parse(data.until) / 1000] },
        y: { range: (_chart, _low, high) => [0, Math.max(high * 1.15, 1)] },
      },
      axes: [
        { ...axis, size: 24, values: (_chart, ticks, _i, _space, step) => ticks.map((t) => tick(t, step)) },
        { ...axis, size: 46, space: 34, values: (_chart, ticks) => ticks.map((v) => number.format(v)) },
      ],
      series: [{}, { ...series, points: { show: false, size: 4 }, spanGaps: false }],
      hooks: {
        setCursor: [
          (chart) => {
            const i = chart.cursor.idx;
            if (i == null || chart.cursor.left < 0) said(figure, lastOf(chart));
            else said(figure, chart.data[1][i], chart.data[0][i]);
          },
        ],
      },
    };
  }

  function tick(at, step) {
    const day = step >= 86400;
    const shape = day ? { month: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit" };
    return new Date(at * 1000).toLocaleString(language, shape);
  }

  function draw(afresh) {
    if (!data) return;
    const some = data.cpu_usage.length > 0;
    empty.hidden = some;
    empty.textContent = nothing;
    card.querySelector(".m-charts").hidden = !some;
    if (!some) return;
    for (const figure of figures) {
      const points = columns(data[figure.dataset.series], data.resolution);
      let chart = charts.get(figure);
      if (chart && afresh) {
        chart.destroy();
        chart = null;
      }
      if (chart) {
        chart.setData(points);
      } else {
        const room = figure.querySelector("div");
        chart = new uPlot(options(figure, room.clientWidth), points, room);
        charts.set(figure, chart);
      }
      if (chart.cursor.idx == null || chart.cursor.left < 0) said(figure, lastOf(chart));
    }
  }

  // --- data ----------------------------------------------------------------------------------------

  async function load(afresh) {
    const asked = period;
    window.clearTimeout(timer);
    try {
      const answer = await fetch(`${card.dataset.url}?period=${asked}`, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(answer.statusText);
      const body = await answer.json();
      if (asked !== period) return; // another one was chosen meanwhile
      data = body;
      draw(afresh);
    } catch {
      if (!data) {
        empty.textContent = card.dataset.trouble;
        empty.hidden = false;
      }
    }
    plan();
  }

  function plan() {
    window.clearTimeout(timer);
    timer = window.setTimeout(() => (document.hidden ? plan() : load(false)), 10000);
  }

  function choose(wanted) {
    period = buttons.some((button) => button.dataset.period === wanted) ? wanted : "1h";
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.period === period));
    try {
      localStorage.setItem(PERIOD, period);
    } catch {
      // a browser that keeps nothing shows an hour each time
    }
    load(true);
  }

  for (const button of buttons) button.addEventListener("click", () => choose(button.dataset.period));
  document.addEventListener("visibilitychange", () => document.hidden || load(false));
  new ResizeObserver(() => {
    for (const [figure, chart] of charts) {
      const width = figure.querySelector("div").clientWidth;
      if (width && width !== chart.width) chart.setSize({ width, height: HEIGHT });
    }
  }).observe(card);
  new MutationObserver(() => draw(true)).observe(document.documentElement, { attributeFilter: ["class"] });

  let remembered = "1h";
  try {
    remembered = localStorage.getItem(PERIOD) ?? remembered;
  } catch {
    // as above
  }
  choose(remembered);
})();
