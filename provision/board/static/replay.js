// Plays recorded terminals (asciicast v2) on xterm.js, with the markers of drills.
import { $, button, duration, element } from "./dom.js";
import { get } from "./net.js";
import { makeScreen } from "./screen.js";

const LONGEST_PAUSE = 2; // seconds

class Player {
  constructor(text) {
    const [header, ...rows] = text.split("\n").filter(Boolean).flatMap((line) => { try { return [JSON.parse(line)]; } catch { return []; } });
    this.header = header;
    // Pauses are shortened; "at" is the time in the replay.
    let at = 0;
    let last = 0;
    this.events = rows.filter(Array.isArray).map(([time, kind, value]) => {
      at += Math.min(Math.max(0, time - last), LONGEST_PAUSE);
      last = time;
      return { at, kind, value };
    });
    this.length = at;
    this.markers = this.events.filter((event) => event.kind === "m");
    this.screen = makeScreen({ disableStdin: true, cols: header.width, rows: header.height });
    Object.assign(this, { next: 0, time: 0, speed: 1, playing: false });
    this.bar = element("input", "seek");
    Object.assign(this.bar, { type: "range", min: 0, max: this.length || 1, step: 0.1, value: 0 });
    this.bar.setAttribute("aria-label", "Position");
    this.bar.addEventListener("input", () => this.seek(Number(this.bar.value)));
    this.clock = element("span", "soft");
    this.toggle = button("Play", "primary", () => this.play(!this.playing));
    const speed = element("select", "", ...[1, 2, 4, 8].map((n) => { const o = element("option", "", `${n}×`); o.value = n; return o; }));
    speed.setAttribute("aria-label", "Speed");
    speed.addEventListener("change", () => { this.speed = Number(speed.value); });
    this.box = element("div", "screen replay-screen");
    const marks = element("ul", "markers", ...this.markers.map((marker) => element("li", "", button(`${duration(marker.at)}  ${marker.value}`, "quiet", () => this.seek(marker.at)))));
    this.view = element("div", "player", element("div", "row", this.toggle, this.bar, this.clock, speed), this.box, marks);
    this.timer = setInterval(() => this.tick(), 50);
  }

  open(from = 0) {
    this.screen.open(this.box);
    this.seek(from);
  }

  write(until) {
    while (this.next < this.events.length && this.events[this.next].at <= until) {
      const { kind, value } = this.events[this.next];
      this.next += 1;
      if (kind === "o") this.screen.write(value);
      else if (kind === "r") {
        const [columns, rows] = value.split("x").map(Number);
        if (columns > 0 && columns <= 500 && rows > 0 && rows <= 200) this.screen.resize(columns, rows);
      }
    }
  }

  seek(time) {
    if (time < this.time) {
      this.screen.reset();
      this.screen.resize(this.header.width, this.header.height);
      this.next = 0;
    }
    this.time = time;
    this.write(time);
    this.update();
  }

  play(on) {
    if (on && this.time >= this.length) this.seek(0);
    this.playing = on;
    this.last = performance.now();
    this.toggle.textContent = on ? "Pause" : "Play";
  }

  tick() {
    if (!this.playing) return;
    const now = performance.now();
    this.time = Math.min(this.length, this.time + ((now - this.last) / 1000) * this.speed);
    this.last = now;
    this.write(this.time);
    if (this.time >= this.length) this.play(false);
    this.update();
  }

  update() {
    this.bar.value = this.time;
    this.clock.textContent = `${duration(this.time)} / ${duration(this.length)}`;
  }

  stop() {
    clearInterval(this.timer);
    this.screen.dispose();
  }
}

export class ReplayView {
  constructor(main, me, team, status) {
    Object.assign(this, { team, status, player: null });
    $("heading").replaceChildren("Recordings", element("small", "", team));
    this.list = element("ul", "recordings");
    this.stage = element("section", "panel stage");
    main.append(element("section", "panel", element("div", "head", element("h2", "", "Recorded terminals")), this.list), this.stage);
    get("/api/recordings", { team }).then(({ recordings }) => {
      status(true, `${recordings.length} recordings`);
      this.list.replaceChildren(...(recordings.length ? recordings.map((one) => this.item(one)) : [element("li", "soft", "There is no recording. Only the teacher turns recording on.")]));
    }, (error) => status(false, error.message));
  }

  item(one) {
    const when = new Date(one.start * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
    const runs = one.runs.length ? `, run ${one.runs.join(", ")}` : "";
    return element("li", "", button(`${one.machine}, ${when}, ${duration(one.seconds)}${runs}`, "quiet", () => this.play(one)));
  }

  async play(one) {
    try {
      const parameters = new URLSearchParams({ team: this.team, name: one.name });
      const response = await fetch(`/api/cast?${parameters}`);
      if (!response.ok) throw new Error(`status ${response.status}`);
      this.player?.stop();
      this.player = new Player(await response.text());
      this.stage.replaceChildren(this.player.view);
      this.player.open();
      this.player.play(true);
    } catch (error) {
      this.status(false, `the recording cannot be played: ${error.message}`);
    }
  }

  stop() {
    this.player?.stop();
  }
}
