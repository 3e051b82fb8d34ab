// Stacked bars of the usage page, drawn by uPlot. The figures stand in the page as JSON; texts of money are the server's own.
const place = document.getElementById("chart");
const facts = JSON.parse(document.getElementById("chart-data").textContent);
const box = place.querySelector(".plot");
const tip = place.querySelector(".tip");
const buttons = [...document.querySelectorAll("[data-series]")];
const times = facts.days.map((day) => Date.parse(`${day}T00:00:00Z`) / 1000);
const isShown = facts.series.map(() => true);
let plot = null;

const colourOf = (number) => getComputedStyle(document.querySelector(`.legend rect.f${number + 1}`)).fill;
const token = (name) => {
  // Canvas cannot read light-dark(): the browser resolves it on an element.
  box.style.color = `var(${name})`;
  const colour = getComputedStyle(box).color;
  box.style.color = "";
  return colour;
};

function stacked() {
  const heights = [];
  const below = times.map(() => 0);
  facts.series.forEach((series, number) => {
    if (isShown[number]) series.values.forEach((value, day) => { below[day] += value / facts.scale; });
    heights.push([...below]);
  });
  return heights;
}

const dayText = (day) => new Date(`${day}T00:00:00Z`).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });

function tell(day) {
  if (day === null || day === undefined) { tip.hidden = true; return; }
  tip.replaceChildren();
  const title = document.createElement("b");
  title.textContent = new Date(`${facts.days[day]}T00:00:00Z`).toLocaleDateString("en-GB", { weekday: "long", day: "numeric", month: "long", timeZone: "UTC" });
  const list = document.createElement("dl");
  for (let number = facts.series.length - 1; number >= 0; number -= 1) {
    if (!isShown[number]) continue;
    const mark = buttons[number].querySelector("svg").cloneNode(true);
    const name = document.createElement("dt");
    const figure = document.createElement("dd");
    name.textContent = facts.series[number].label;
    figure.textContent = facts.series[number].texts[day];
    list.append(mark, name, figure);
  }
  const sum = document.createElement("div");
  sum.className = "sum";
  const words = document.createElement("span");
  words.textContent = facts.unit[0].toUpperCase() + facts.unit.slice(1);
  const total = document.createElement("span");
  total.textContent = facts.sums[day];
  sum.append(words, total);
  tip.append(title, list, sum);
  tip.hidden = false;
  const at = plot.valToPos(times[day], "x") + box.offsetLeft + plot.over.offsetLeft;
  const isLeft = at > place.clientWidth / 2;
  tip.style.left = `${isLeft ? Math.max(8, at - tip.offsetWidth - 24) : at + 24}px`;
}

function draw() {
  const heights = stacked();
  const ink = token("--ui-ink-3");
  const line = token("--ui-line");
  const height = innerWidth < 760 ? 216 : 240;
  const surface = token("--ui-surface");
  plot?.destroy();
  const order = facts.series.map((_, number) => number).reverse();
  const axis = { stroke: ink, font: "11px 'Inter Variable', sans-serif", ticks: { show: false } };
  plot = new uPlot({
    width: box.clientWidth, height, padding: [8, 4, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    scales: { x: { time: false, range: () => [times[0] - 43200, times[times.length - 1] + 43200] }, y: { range: (_, __, most) => [0, most > 0 ? most * 1.05 : 1] } },
    axes: [
      { ...axis, grid: { show: false }, size: 28, splits: () => {
          const step = Math.max(1, Math.ceil(times.length / Math.max(2, Math.floor(box.clientWidth / 90))));
          return times.filter((_, day) => (times.length - 1 - day) % step === 0);
        }, values: (_, splits) => splits.map((at) => { const day = times.indexOf(at); return day === times.length - 1 ? "Today" : dayText(facts.days[day]); }) },
      { ...axis, grid: { stroke: line, width: 1 }, size: 62, space: 40, values: (_, splits) => splits.map((value) => value.toLocaleString("en-GB", { maximumFractionDigits: 6 })) },
    ],
    // Drawn from the top of the stack down, each bar over the one before.
    series: [{}, ...order.map((number) => ({
      fill: colourOf(number), stroke: surface, width: 1, paths: uPlot.paths.bars({ size: [0.7, 44] }), points: { show: false }, show: isShown[number],
    }))],
    hooks: { setCursor: [(self) => tell(self.cursor.left >= 0 ? self.cursor.idx : null)] },
  }, [times, ...order.map((number) => heights[number])], box);
}

buttons.forEach((button, number) => {
  button.addEventListener("click", () => {
    isShown[number] = !isShown[number];
    button.setAttribute("aria-pressed", String(isShown[number]));
    draw();
  });
});

let pointed = times.length;
place.addEventListener("keydown", (event) => {
  if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
  event.preventDefault();
  pointed = Math.max(0, Math.min(times.length - 1, pointed + (event.key === "ArrowLeft" ? -1 : 1)));
  tell(pointed);
});
place.addEventListener("blur", () => tell(null));
document.addEventListener("themechange", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
new ResizeObserver(() => { if (plot && Math.abs(plot.width - box.clientWidth) > 1) draw(); }).observe(box);
draw();
