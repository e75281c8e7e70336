// Draws the running lab: tiers from the clients to the data, with routes, weights and replication.
import { element, render, svg } from "./dom.js";

const HEAD = 40;
const LINE = 19;
const NARROW = 560; // pixels; below, the tiers are rows

// Programs of a machine as lines that fit into its box.
const lines = (machine, most) => {
  const rows = [];
  let row = [];
  for (const program of machine.programs) {
    const text = program.bad ? `${program.name}: ${program.state}` : program.name;
    const length = row.reduce((sum, one) => sum + one.text.length + 3, text.length);
    if (row.length && length > most) {
      rows.push(row);
      row = [];
    }
    row.push({ text, bad: program.bad });
  }
  if (row.length) rows.push(row);
  return rows;
};

export class Topology {
  constructor(panel, open) {
    this.panel = panel;
    this.open = open;
    this.head = element("div", "head", element("h2", "", "Topology"));
    this.facts = element("small");
    this.head.append(this.facts);
    this.drawing = element("div", "drawing");
    this.alerts = element("div", "alerts");
    this.alerts.setAttribute("aria-live", "polite");
    panel.append(this.head, this.alerts, this.drawing);
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.drawing);
  }

  stop() {
    this.observer.disconnect();
  }

  show(scene, problem) {
    this.scene = scene;
    this.reason = problem;
    this.facts.textContent = scene.algorithm ? `${scene.algorithm}, ${scene.mode}` : "";
    render(this.alerts, [scene.alerts, problem], () => {
      const rows = (scene.alerts || []).map((alert) => element("p", `notice ${alert.severity === "critical" ? "bad" : "warn"}`,
        element("b", "", alert.machine || "lab"), element("span", "what", alert.text)));
      if (problem) rows.unshift(element("p", "notice bad", element("b", "", "Lab"), element("span", "what", problem)));
      return rows;
    });
    this.draw();
  }

  draw() {
    if (!this.scene) return;
    const vertical = this.drawing.clientWidth < NARROW;
    if (!render(this.drawing, [this.scene, vertical], () => (this.scene.layers.length ? this.picture(vertical) : element("p", "soft", this.scene.title)))) return;
    const focused = this.focused && this.drawing.querySelector(`[data-machine="${CSS.escape(this.focused)}"]`);
    focused?.focus();
  }

  picture(vertical) {
    const scene = this.scene;
    const WIDTH = vertical ? 176 : 204;
    this.letters = vertical ? 22 : 24;
    const tallest = (machines) => Math.max(...machines.map((m) => HEAD + 8 + LINE * (lines(m, this.letters).length + (m.note || m.error ? 1 : 0))));
    const tiers = [{ title: "Clients", machines: [], height: 52 }, ...scene.layers.map((layer) => ({ ...layer, height: tallest(layer.machines) }))];
    const places = new Map();
    const columns = [];
    const [across, between] = vertical ? [58, 26] : [116, 24];
    const sizes = tiers.map((tier) => {
      const count = Math.max(1, tier.machines.length);
      const side = vertical ? WIDTH : tier.height;
      return count * side + (count - 1) * between;
    });
    const breadth = Math.max(...sizes);
    let along = vertical ? 8 : 8;
    tiers.forEach((tier, number) => {
      const names = tier.machines.length ? tier.machines.map((m) => m.name) : [`tier ${number}`];
      const start = (breadth - sizes[number]) / 2;
      const column = names.map((name, at) => {
        const place = vertical
          ? { x: start + at * (WIDTH + between), y: along, w: WIDTH, h: tier.height }
          : { x: along, y: start + at * (tier.height + between), w: WIDTH, h: tier.height };
        places.set(name, place);
        return { name, place, machine: tier.machines[at] };
      });
      columns.push(column);
      along += (vertical ? tier.height : WIDTH) + across;
    });
    const length = along - across + 8;
    const room = 84; // beside the last tier, for arrows of replication in one column
    const [w, h] = vertical ? [breadth + 16, length] : [length + room, breadth];
    const marker = (id, kind) => svg("marker", { id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse" }, svg("path", { d: "M0 0.6 8 4 0 7.4z", class: kind }));
    const top = svg("g");
    const root = svg("svg", { viewBox: `${vertical ? -8 : 0} -8 ${w} ${h + 16}`, role: "group", "aria-label": this.describe() },
      svg("defs", {}, marker("to", "head"), marker("to-bad", "head bad"), marker("to-data", "head data")));
    root.append(...this.routes(columns, vertical, top), ...this.copies(places, vertical, top));
    for (const column of columns) for (const item of column) root.append(item.machine ? this.box(item) : this.clients(item.place));
    root.append(top);
    return root;
  }

  describe() {
    const problems = this.scene.problems;
    return `${this.scene.title}. ${problems.length ? problems.join("; ") : "Everything runs."}`;
  }

  clients(place) {
    const middle = place.x + place.w / 2;
    const y = place.y + place.h / 2;
    return svg("g", { class: "clients" },
      svg("rect", { x: place.x, y: place.y, width: place.w, height: place.h, rx: place.h / 2 }),
      svg("text", { x: middle, y: y - 3, class: "name" }, this.scene.site),
      svg("text", { x: middle, y: y + 15, class: "small" }, this.scene.address));
  }

  box({ name, place, machine }) {
    const middle = place.x + place.w / 2;
    const text = (y, content, kind) => svg("text", { x: middle, y, class: kind }, ...[content].flat());
    const made = svg("g", { class: `machine-box ${machine.color}`, tabindex: 0, role: "button", "data-machine": name, "aria-label": `${name}, ${machine.state}: open a terminal` },
      svg("title", {}, `${name}: open a terminal`),
      svg("rect", { x: place.x, y: place.y, width: place.w, height: place.h, rx: 10, class: "frame" }),
      svg("path", { d: `M${place.x} ${place.y + HEAD}v${-HEAD + 10}a10 10 0 0 1 10 -10h${place.w - 20}a10 10 0 0 1 10 10v${HEAD - 10}z`, class: "top" }),
      text(place.y + 17, name, "name"),
      text(place.y + 33, `${machine.address}${machine.state === "running" ? "" : ` · ${machine.state}`}`, "small"));
    let y = place.y + HEAD + 3;
    for (const row of lines(machine, this.letters)) {
      y += LINE;
      made.append(text(y, row.flatMap((one, at) => [at ? " · " : "", svg("tspan", one.bad ? { class: "bad" } : {}, one.text)])));
    }
    if (machine.note || machine.error) made.append(text(y + LINE, machine.error ? "does not respond" : machine.note, machine.error ? "bad" : "note"));
    const open = () => this.open(name);
    made.addEventListener("click", open);
    made.addEventListener("focus", () => { this.focused = name; });
    made.addEventListener("blur", () => { this.focused = null; });
    made.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        open();
      }
    });
    return made;
  }

  // Lines between neighboring tiers; those of a balancer carry its view of the server.
  routes(columns, vertical, top) {
    const made = [];
    const known = new Map(this.scene.routes.map((route) => [`${route.source} ${route.target}`, route]));
    const most = Math.max(1, ...this.scene.routes.map((route) => route.rate));
    columns.slice(1).forEach((targets, number) => {
      const layer = this.scene.layers[number];
      if (!layer.connection) return;
      const sources = columns[number];
      sources.forEach((source, i) => targets.forEach((target, j) => {
        const route = known.get(`${source.name} ${target.name}`);
        const share = (n, count) => (count > 1 ? (n + 1) / (count + 1) : 0.5);
        const a = source.place;
        const b = target.place;
        const [x1, y1, x2, y2] = vertical
          ? [a.x + a.w * share(j, targets.length), a.y + a.h, b.x + b.w * share(i, sources.length), b.y - 3]
          : [a.x + a.w, a.y + a.h * share(j, targets.length), b.x - 3, b.y + b.h * share(i, sources.length)];
        const down = route ? !route.up : target.machine?.color === "red";
        const idle = route && route.up && (route.weight === 0 || route.backup);
        const kind = down ? "route bad" : idle ? "route idle" : "route";
        const path = svg("path", { d: `M${x1} ${y1}L${x2} ${y2}`, class: kind, "marker-end": `url(#${down ? "to-bad" : "to"})` });
        made.push(path);
        if (route && route.rate > 0) made.push(svg("path", { d: `M${x1} ${y1}L${x2} ${y2}`, class: `flow ${route.rate > most / 2 ? "fast" : ""}` }));
        if (route) {
          const text = route.up ? `${route.backup ? "backup" : `weight ${route.weight}`}, ${route.rate}/s` : route.status;
          const [x, y] = [x1 + (x2 - x1) * 0.5, y1 + (y2 - y1) * 0.5];
          const angle = vertical ? 0 : (Math.atan2(y2 - y1, x2 - x1) * 180) / Math.PI;
          top.append(svg("text", { x, y: y + (vertical ? 4 : -7), transform: `rotate(${angle.toFixed(1)} ${x} ${y})`, class: `label ${down ? "bad" : ""}` }, text));
        }
      }));
    });
    return made;
  }

  // Replication: from the primary to each replica, beside their boxes.
  copies(places, vertical, top) {
    return this.scene.replication.flatMap((row, number) => {
      const a = places.get(row.source);
      const b = places.get(row.replica);
      if (!a || !b) return [];
      const bad = row.running === false;
      const lag = row.running === null ? "unknown" : bad ? "stopped" : `lag ${row.lag ?? "?"} s`;
      let d;
      let x;
      let y;
      if (vertical && Math.abs(a.y - b.y) < 1) {
        const right = b.x > a.x;
        y = a.y + a.h - 14;
        d = right ? `M${a.x + a.w} ${y}L${b.x - 3} ${y}` : `M${a.x} ${y}L${b.x + b.w + 3} ${y}`;
        x = right ? (a.x + a.w + b.x) / 2 : (b.x + b.w + a.x) / 2;
        y += 26;
      } else {
        const out = 20 + 12 * number;
        const side = Math.max(a.x + a.w, b.x + b.w);
        const [from, to] = [a.y + a.h * 0.6, b.y + b.h * 0.4];
        d = `M${a.x + a.w} ${from}C${side + out} ${from} ${side + out} ${to} ${b.x + b.w + 3} ${to}`;
        x = side + 52;
        y = (from + to) / 2 + 4;
      }
      top.append(svg("text", { x, y, class: `label ${bad ? "bad" : "data"}` }, lag));
      return [svg("path", { d, class: `copy ${bad ? "bad" : ""}`, "marker-end": `url(#${bad ? "to-bad" : "to-data"})` })];
    });
  }
}
