// The monitoring page: polls "data" every few seconds and draws it with Chart.js.
"use strict";

const POLL_INTERVAL = 3000; // milliseconds
const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
const charts = {};
const requestedMinutes = Number(new URLSearchParams(location.search).get("minutes"));
let minutes = requestedMinutes || 15;
let chosen = Boolean(requestedMinutes); // by the visitor, or by the age of the data
let latest = null;
let timer = 0;

// --- helpers -------------------------------------------------------------------------------------

function element(tag, classes, text) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  if (text !== undefined) made.textContent = text;
  return made;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const clock = (seconds, full) =>
  new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: full ? "2-digit" : undefined, hour12: false });
const digits = (value, most = 1) =>
  value === null || value === undefined ? "–" : value >= 99.5 ? value.toFixed(0) : String(Number(value.toFixed(most)));
const JOBS = { node: "Node exporter", mysqld: "MySQL exporter", mysql: "MySQL exporter", nginx: "Nginx exporter", haproxy: "HAProxy", prometheus: "Prometheus", alertmanager: "Alertmanager" };
const pick = (each, labels) => (each || []).find((one) => Object.entries(labels).every(([k, v]) => one.labels[k] === v));
const value = (name, labels = {}) => pick(latest.current[name], labels)?.value ?? null;
const names = (label, ...each) => [...new Set(each.flat().map((one) => one.labels[label]))].filter(Boolean).sort();

// A command with a button that copies it; where the clipboard is not available, it is selected.
function command(text) {
  const made = element("span", "command");
  const code = element("code", "", text);
  const button = element("button", "copy", "Copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  made.append(code, button);
  return made;
}

function duration(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

// One value per step, null where Prometheus has none, so that a gap stays a gap.
function line(series, times, factor) {
  const known = new Map(series.points.map(([t, v]) => [Math.round(t), v]));
  return times.map((t) => ({ x: t, y: known.has(t) && known.get(t) !== null ? known.get(t) * factor : null }));
}

// A value without neighbors is drawn as a point.
const lonely = (data, at) => data[at].y !== null && (data[at - 1]?.y ?? null) === null && (data[at + 1]?.y ?? null) === null;

// --- charts --------------------------------------------------------------------------------------

const KINDS = {
  requests: { label: "server", stacked: true, unit: "/s", least: 1 },
  response: { label: "server", unit: " ms", factor: 1000, least: 10 },
  errors: { label: "code", unit: "/s", least: 1, bars: true, colours: { "4xx": "--amber", "5xx": "--bad" }, always: ["4xx", "5xx"] },
  lag: { label: "machine", unit: " s", least: 5, limit: "lag" },
  queries: { label: "machine", unit: "/s", least: 10 },
};

function options(kind, first, last) {
  const apart = Math.max(60, Math.ceil((minutes * 60) / 6 / 60) * 60);
  const soft = colour("--soft");
  const grid = colour("--line");
  return {
    responsive: true, maintainAspectRatio: false, animation: false, normalized: true,
    interaction: { mode: "index", intersect: false },
    layout: { padding: { right: 6 } },
    scales: {
      x: {
        type: "linear", stacked: Boolean(kind.stacked || kind.bars), min: first, max: last, offset: false,
        afterBuildTicks: (axis) => {
          axis.ticks = [];
          for (let t = Math.ceil(first / apart) * apart; t <= last; t += apart) axis.ticks.push({ value: t });
        },
        grid: { display: false, borderColor: grid },
        ticks: { color: soft, maxRotation: 0, autoSkip: false, font: { size: 11 }, callback: (t) => clock(t, minutes <= 5) },
      },
      y: {
        stacked: Boolean(kind.stacked || kind.bars), min: 0, suggestedMax: kind.least,
        grid: { color: grid, drawBorder: false },
        ticks: { color: soft, maxTicksLimit: 5, font: { size: 11 }, callback: (v) => `${digits(v, 2)}${kind.unit}` },
      },
    },
    plugins: {
      legend: { display: false },
      tooltip: {
        backgroundColor: colour("--text"), titleColor: colour("--page"), bodyColor: colour("--page"), padding: 9, cornerRadius: 8, boxPadding: 4,
        callbacks: {
          title: (items) => (items.length ? clock(items[0].parsed.x, true) : ""),
          label: (item) => ` ${item.dataset.label}  ${digits(item.parsed.y, 2)}${kind.unit}`,
        },
      },
    },
  };
}

function draw(name) {
  const kind = KINDS[name];
  const { step, time } = latest;
  const last = Math.floor(time / step) * step;
  const first = last - minutes * 60;
  const times = [];
  for (let t = first; t <= last; t += step) times.push(t);

  let series = [...latest.series[name]].sort((a, b) => a.labels[kind.label].localeCompare(b.labels[kind.label]));
  for (const name of kind.always || []) {
    if (!pick(series, { [kind.label]: name })) series.push({ labels: { [kind.label]: name }, points: [] });
  }
  const everyone = names("server", latest.series.requests, latest.series.serving).concat(names("machine", latest.series.queries));
  const order = [...new Set(everyone)];
  const colours = series.map((one, place) => {
    const text = one.labels[kind.label];
    if (kind.colours) return colour(kind.colours[text] || "--soft");
    const known = order.indexOf(text);
    return colour(`--c${(known >= 0 ? known : place) % 6}`);
  });
  const datasets = series.map((one, place) => ({
    label: one.labels[kind.label],
    data: line(one, times, kind.factor || 1),
    borderColor: colours[place],
    backgroundColor: kind.bars ? colours[place] : `${colours[place]}${kind.stacked ? "66" : "22"}`,
    borderWidth: kind.bars ? 0 : 2,
    barPercentage: 1, categoryPercentage: 0.9, barThickness: kind.bars ? "flex" : undefined,
    fill: kind.stacked ? (place ? "-1" : "origin") : false,
    pointRadius: ({ dataset, dataIndex: at }) => (lonely(dataset.data, at) ? 2 : 0),
    pointBackgroundColor: colours[place], pointHitRadius: 8, tension: 0.25, cubicInterpolationMode: "monotone",
  }));
  const limit = latest.limits[kind.limit];
  if (limit) {
    datasets.push({
      label: "alert", data: [{ x: first, y: limit }, { x: last, y: limit }], borderColor: colour("--bad"),
      borderDash: [4, 4], borderWidth: 1, pointRadius: 0, pointHitRadius: 0, fill: false,
    });
  }
  const chartOptions = options(kind, first, last);
  if (charts[name]) {
    charts[name].data.datasets = datasets;
    charts[name].options = chartOptions;
    charts[name].update("none");
  } else {
    charts[name] = new Chart($(name), { type: kind.bars ? "bar" : "line", data: { datasets }, options: chartOptions });
  }

  const legend = $(name).closest("figure").querySelector(".legend");
  legend.replaceChildren(...series.map((one, place) => {
    const entry = element("span", "", "");
    const box = element("i");
    box.style.background = colours[place];
    entry.append(box, one.labels[kind.label]);
    return entry;
  }));
}

// --- the rest of the page ------------------------------------------------------------------------

function drawTiles() {
  const total = value("total");
  const failed = value("failed");
  const share = total ? (failed || 0) / total : total === null ? null : 0;
  const responses = latest.series.response.map((one) => one.points.at(-1)).filter((p) => p && latest.time - p[0] < 30).map((p) => p[1]);
  const response = responses.length ? Math.max(...responses) : null;
  const lags = latest.series.lag.map((one) => one.points.at(-1)).filter((p) => p && latest.time - p[0] < 30).map((p) => p[1]);
  const lag = lags.length ? Math.max(...lags) : null;
  const up = latest.current.targets.filter((one) => one.value === 1).length;
  $("tile-requests").textContent = digits(total);
  $("tile-response").textContent = response === null ? "–" : response >= 1 ? digits(response) : digits(response * 1000, 0);
  $("unit-response").textContent = response !== null && response >= 1 ? "s" : "ms";
  $("tile-errors").textContent = share === null ? "–" : digits(share * 100);
  $("tile-lag").textContent = digits(lag, 0);
  $("tile-targets").textContent = up;
  $("unit-targets").textContent = `of ${latest.current.targets.length}`;
  $("box-errors").classList.toggle("bad", share > latest.limits.errors);
  const stopped = [...latest.current.receiving, ...latest.current.applying].some((one) => one.value !== 1);
  $("box-lag").classList.toggle("bad", stopped || lag > latest.limits.lag);
  if (stopped) $("tile-lag").textContent = "stopped";
  $("unit-lag").hidden = stopped;
  $("box-targets").classList.toggle("bad", up < latest.current.targets.length);
}

function drawAlerts() {
  const shown = latest.alerts.map((alert) => {
    const box = element("p", `notice ${alert.severity === "critical" ? "bad" : "warn"}`);
    box.append(
      element("b", "", `${alert.name} ${alert.machine}`),
      element("span", "what", alert.summary),
      command(alert.next),
      element("time", "", `for ${duration(latest.time - Date.parse(alert.since) / 1000)}`),
    );
    return box;
  });
  if (!shown.length) shown.push(element("p", "notice good", "No alerts: all machines, services and replicas are healthy."));
  $("alerts").replaceChildren(...shown);
}

function drawServing() {
  const { step, time } = latest;
  const last = Math.floor(time / step) * step;
  const count = Math.floor((minutes * 60) / step) + 1;
  const rows = names("server", latest.series.serving).map((name) => {
    const points = new Map(pick(latest.series.serving, { server: name }).points.map(([t, v]) => [Math.round(t), v]));
    const row = element("div", "strip");
    const strip = element("canvas");
    strip.width = count;
    strip.height = 1;
    strip.setAttribute("role", "img");
    strip.setAttribute("aria-label", `When ${name} was in rotation`);
    strip.style.imageRendering = "pixelated";
    const pen = strip.getContext("2d");
    for (let place = 0; place < count; place += 1) {
      const known = points.get(last - (count - 1 - place) * step);
      if (known === undefined || known === null) continue;
      pen.fillStyle = colour(known ? "--good" : "--bad");
      pen.fillRect(place, 0, 1, 1);
    }
    const state = (latest.current.state.find((one) => one.labels.server === name) || { labels: { state: "?" } }).labels.state;
    const kind = state === "UP" ? "good-text" : state === "DOWN" ? "bad-text" : "warn-text";
    row.append(element("span", "", name), strip, element("b", kind, state.toLowerCase()));
    return row;
  });
  $("serving").replaceChildren(...rows);
}

function drawMachines() {
  const cards = names("machine", latest.current.targets).map((name) => {
    const mine = latest.current.targets.filter((one) => one.labels.machine === name);
    const alive = value("targets", { machine: name, job: "node" }) === 1;
    const box = element("div", "machine");
    const head = element("h3");
    // The dot is about services: red when one is stopped, amber when some are unknown.
    const services = latest.current.services.filter((one) => one.labels.machine === name);
    const stopped = services.some((one) => one.value !== 1);
    const known = mine.every((one) => one.value === 1);
    const dot = element("span", `dot ${stopped ? "bad" : known ? "good" : "warn"}`);
    dot.title = stopped ? "a service is stopped" : known ? "all services run" : "some services are unknown";
    head.append(dot, name);
    const readOnly = value("read_only", { machine: name });
    const role = readOnly === null ? "" : readOnly ? "replica" : "primary";
    head.append(element("em", "", alive ? role : "Node exporter unreachable"));
    const chips = element("div", "chips");
    for (const one of services) {
      const text = one.labels.name.replace(/\.service$/, "").replace(/^prometheus-node-exporter$/, "node exporter");
      chips.append(element("span", `chip ${one.value ? "" : "bad"}`, one.value ? text : `${text} stopped`));
    }
    for (const one of mine.filter((each) => each.value !== 1 && each.labels.job !== "node")) {
      chips.append(element("span", "chip bad", `${JOBS[one.labels.job] || one.labels.job} unreachable`));
    }
    const facts = element("dl");
    const fact = (what, text) => facts.append(element("dt", "", what), element("dd", "", text));
    const disk = value("disk", { machine: name });
    if (disk !== null) fact("Disk used", `${digits(disk * 100, 0)} %`);
    const clients = value("connections", { machine: name });
    if (clients !== null) fact("Connections", digits(clients, 0));
    if (role === "replica") {
      const runs = (thread) => value(thread, { machine: name }) === 1;
      fact("Replication", runs("receiving") && runs("applying") ? "running" : runs("applying") ? "receiver stopped" : "stopped");
    }
    if (role === "primary") fact("Replication", value("semi_sync", { machine: name }) ? "semi-synchronous" : "asynchronous");
    const sessions = value("sessions", { server: name });
    if (sessions !== null) fact("Requests in progress", digits(sessions, 0));
    box.append(head, chips, facts);
    return box;
  });
  $("machines").replaceChildren(...cards);
}

function drawAll() {
  if (!latest) return;
  const title = `${latest.site}, lab ${latest.lab}`;
  document.title = latest.alerts.length ? `(${latest.alerts.length}) ${title}` : title;
  for (const name of ["site", "lab", "topology"]) $(name).textContent = latest[name];
  if (!$("terminal").firstChild) {
    $("terminal").append(command(`invoke monitor.show${latest.lab === "default" ? "" : ` --lab ${latest.lab}`}`));
  }
  drawAlerts();
  drawTiles();
  drawServing();
  drawMachines();
  for (const name of Object.keys(KINDS)) draw(name);
  document.body.dataset.drawn = String(Object.keys(charts).length);
}

function status(good, text) {
  $("pulse").className = `dot ${good ? "good" : "bad"}`;
  $("clock").textContent = text;
}

async function poll() {
  clearTimeout(timer);
  timer = setTimeout(poll, document.hidden ? POLL_INTERVAL * 5 : POLL_INTERVAL);
  const requested = minutes;
  try {
    const response = await fetch(`data?minutes=${requested}`, { cache: "no-store" });
    const data = await response.json();
    if (!response.ok) throw new Error(data.error || `status ${response.status}`);
    if (!chosen) {
      // A new lab has data of the last minutes only: show five.
      chosen = true;
      const oldest = Math.min(...data.series.queries.concat(data.series.requests).map((one) => one.points[0]?.[0] ?? data.time));
      if (data.time - oldest < 300) return choose(5);
    }
    if (requested === minutes) {
      latest = data;
      status(true, `live, ${clock(data.time, true)}`);
    }
  } catch (error) {
    const since = latest ? `; showing data of ${clock(latest.time, true)}` : "";
    status(false, `no data (${error.message})${since}`);
  }
  drawAll();
}

function choose(selected) {
  minutes = selected;
  for (const button of document.querySelectorAll("#spans button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.minutes) === minutes));
  }
  poll();
}

for (const button of document.querySelectorAll("#spans button")) {
  button.addEventListener("click", () => { chosen = true; choose(Number(button.dataset.minutes)); });
}
if (![5, 15, 60, 360].includes(minutes)) minutes = 15;
dark.addEventListener("change", drawAll);
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
choose(minutes);
