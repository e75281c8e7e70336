// Terminals in tabs. Each is a shell on a machine that outlives a lost connection: the page tells
// which output it has shown, and gets the rest when it connects again.
import { button, element, render } from "./dom.js";
import { isFinal, post, socketUrl } from "./net.js";
import { dark, makeScreen, theme } from "./screen.js";
import { FitAddon } from "./vendor/addon-fit.mjs";

const ACK_BYTES = 16384;

class Tab {
  constructor(owner, id, machine, number, watching) {
    Object.assign(this, { owner, id, machine, number, watching, position: 0, shown: 0, acked: 0, pause: 300, closed: false, state: {}, queued: [] });
    this.box = element("div", "screen");
    this.box.hidden = true;
    this.screen = makeScreen({ disableStdin: watching });
    this.fit = new FitAddon();
    this.screen.loadAddon(this.fit);
    this.screen.onData((data) => this.send(data));
    this.screen.onBinary((data) => this.send(data));
    this.screen.attachCustomKeyEventHandler((event) => this.key(event));
    this.opened = false;
    this.connect();
  }

  get name() {
    return this.number > 1 ? `${this.machine} (${this.number})` : this.machine;
  }

  connect() {
    const socket = new WebSocket(socketUrl("/ws/terminal", { id: this.id, from: this.position }));
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("message", (event) => {
      this.pause = 300;
      if (typeof event.data === "string") this.control(JSON.parse(event.data));
      else this.output(new Uint8Array(event.data));
    });
    socket.addEventListener("close", (event) => {
      if (this.closed || socket !== this.socket) return;
      if (isFinal(event.code)) return this.end(event.reason || "this terminal has ended");
      this.state = { ...this.state, lost: true };
      this.owner.changed();
      setTimeout(() => { if (!this.closed && socket === this.socket) this.connect(); }, this.pause);
      this.pause = Math.min(this.pause * 1.6, 4000);
    });
  }

  control(message) {
    if (message.type === "start") {
      if (message.position !== this.position) this.restart(message.position);
      this.acked = this.position;
      this.sendSize();
      for (const data of this.queued.splice(0)) this.send(data);
    } else if (message.type === "gap") {
      this.restart(message.position);
    } else if (message.type === "state") {
      this.state = message;
      this.screen.options.disableStdin = !message.writable;
      if (this.opened && (message.columns !== this.screen.cols || message.rows !== this.screen.rows)) this.screen.resize(message.columns, message.rows);
      if (message.ended) this.end(message.ended);
    }
    this.owner.changed();
  }

  // Some output is gone: what follows does not continue what the screen shows.
  restart(position) {
    if (this.position) this.screen.reset();
    this.position = this.shown = this.acked = position;
  }

  output(bytes) {
    this.position += bytes.length;
    const position = this.position;
    this.screen.write(bytes, () => {
      this.shown = position;
      this.acknowledge();
    });
    clearTimeout(this.later);
    this.later = setTimeout(() => this.acknowledge(true), 200);
  }

  acknowledge(all = false) {
    if (this.shown - this.acked < (all ? 1 : ACK_BYTES)) return;
    if (this.transmit({ type: "ack", position: this.shown })) this.acked = this.shown;
  }

  transmit(message) {
    if (this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  // Input is cut into messages that the board accepts; a paste may be long.
  send(data) {
    if (this.state.ended) return;
    if (this.socket.readyState === WebSocket.CONNECTING && !this.position) {
      this.queued.push(data);
      return;
    }
    for (let at = 0; at < data.length; at += 8192) this.transmit({ type: "input", data: data.slice(at, at + 8192) });
  }

  // Types a command without running it.
  type(text) {
    const line = text.replace(/[\x00-\x1f\x7f]+/g, " ").trim();
    this.screen.focus();
    if (!this.screen.options.disableStdin) this.send(line);
  }

  key(event) {
    if (event.type !== "keydown" || !event.ctrlKey || !event.shiftKey) return true;
    if (event.code === "KeyC") {
      event.preventDefault();
      this.copy();
      return false;
    }
    if (event.code === "KeyV") return false; // the browser pastes
    if (event.code === "ArrowUp") {
      this.owner.focusTab();
      return false;
    }
    return true;
  }

  async copy() {
    try { await navigator.clipboard.writeText(this.screen.getSelection()); } catch { document.execCommand("copy"); }
  }

  show() {
    this.box.hidden = false;
    if (!this.opened) {
      this.opened = true;
      this.screen.open(this.box);
    }
    this.resize();
  }

  resize() {
    if (!this.opened || this.box.hidden) return;
    if (!this.watching) {
      const size = this.fit.proposeDimensions();
      if (size && size.cols > 9 && size.rows > 2) this.screen.resize(size.cols, size.rows);
      this.sendSize();
    }
  }

  sendSize() {
    if (this.opened && !this.box.hidden && !this.watching) this.transmit({ type: "resize", columns: this.screen.cols, rows: this.screen.rows });
  }

  end(text) {
    if (this.state.shownEnd) return;
    this.state = { ...this.state, ended: text, shownEnd: true, lost: false };
    this.screen.write(`\r\n\x1b[2m[${text}]\x1b[0m\r\n`);
    this.owner.changed();
  }

  invite(on) {
    this.transmit({ type: "invite", on });
  }

  close() {
    this.closed = true;
    this.socket.close();
    this.screen.dispose();
    this.box.remove();
  }
}

export class Terminals {
  constructor(panel, me, team, problem) {
    Object.assign(this, { me, team, problem, tabs: [], active: null, machines: [], gone: new Set(), values: [] });
    this.watching = me.watches;
    this.bar = element("div", "tabs");
    this.bar.setAttribute("role", "tablist");
    this.bar.setAttribute("aria-label", "Terminals");
    this.tools = element("div", "tools");
    this.body = element("div", "screens");
    this.empty = element("p", "soft empty", this.watching ? "The team has no terminal open." : "Open a terminal on a machine, or click one in the topology.");
    this.body.append(this.empty);
    this.news = element("p", "soft news");
    this.news.setAttribute("aria-live", "polite");
    panel.append(element("div", "shell-head", this.bar, this.tools), this.news, this.body);
    this.observer = new ResizeObserver(() => this.active?.resize());
    this.observer.observe(this.body);
    this.recolor = () => { for (const tab of this.tabs) tab.screen.options.theme = theme(); };
    dark.addEventListener("change", this.recolor);
  }

  stop() {
    this.observer.disconnect();
    dark.removeEventListener("change", this.recolor);
    for (const tab of this.tabs) tab.close();
  }

  // The lab's machines, and the terminals that its team has open.
  show(machines, terminals) {
    this.machines = machines;
    this.values = terminals;
    for (const one of terminals) {
      if (!this.tabs.some((tab) => tab.id === one.id) && !this.gone.has(one.id)) this.add(one.id, one.machine, one.number);
    }
    if (!this.active && this.tabs.length) this.select(this.tabs[0]);
    this.changed();
  }

  add(id, machine, number) {
    const tab = new Tab(this, id, machine, number, this.watching);
    this.tabs.push(tab);
    this.body.append(tab.box);
    return tab;
  }

  async open(machine, another = false) {
    const existing = this.tabs.find((tab) => tab.machine === machine && !tab.state.ended);
    if (existing && !another) {
      this.select(existing, true);
      return existing;
    }
    if (this.watching) return null;
    if (this.opening) return this.opening;
    this.opening = this.create(machine);
    try {
      return await this.opening;
    } finally {
      this.opening = null;
    }
  }

  async create(machine) {
    try {
      const { id, number } = await post("/api/terminals", { team: this.team, machine, columns: 100, rows: 24 });
      const tab = this.tabs.find((one) => one.id === id) || this.add(id, machine, number);
      this.select(tab, true);
      return tab;
    } catch (error) {
      this.problem(error.message);
      return null;
    }
  }

  // Types a command into the terminal of a machine, or into the one that is shown.
  async type(text, machine) {
    const name = machine || (this.active && !this.active.state.ended ? null : this.machines[0]);
    const tab = name ? await this.open(name) : this.active;
    tab?.type(text);
  }

  select(tab, focus = false) {
    this.active = tab;
    for (const one of this.tabs) if (one !== tab) one.box.hidden = true;
    this.empty.hidden = true;
    tab.show();
    if (focus) tab.screen.focus();
    this.changed();
  }

  focusTab() {
    this.bar.querySelector("[aria-selected=true]")?.focus();
  }

  async remove(tab) {
    this.gone.add(tab.id);
    tab.close();
    this.tabs = this.tabs.filter((one) => one !== tab);
    if (!tab.state.ended && !this.watching) post("/api/terminals/close", { id: tab.id }).catch(() => {});
    this.active = null;
    if (this.tabs.length) this.select(this.tabs.at(-1));
    else this.empty.hidden = false;
    this.changed();
  }

  changed() {
    const rows = this.tabs.map((tab) => [tab.id, tab.name, tab === this.active, Boolean(tab.state.ended), Boolean(tab.state.lost), Boolean(tab.state.recorded)]);
    render(this.bar, [rows, this.machines], () => [...this.tabs.map((tab) => this.handle(tab)), ...(this.watching ? [] : [this.opener()])]);
    const tab = this.active;
    const state = tab?.state || {};
    const news = !tab ? "" : state.lost ? "connection lost, connecting again" : state.notice ? state.notice : state.watched && !this.watching ? "the teacher watches this terminal" : this.watching ? (state.writable ? "you take part: what you type reaches the shell" : "read-only") : "";
    render(this.news, news, () => [news]);
    this.news.hidden = !news;
    render(this.tools, [tab?.id, state.ended, state.invited, this.watching], () => this.makeTools(tab, state));
  }

  handle(tab) {
    const made = button(tab.name, "tab", () => this.select(tab, true));
    made.setAttribute("role", "tab");
    made.setAttribute("aria-selected", String(tab === this.active));
    made.title = "In a terminal: Ctrl+Shift+C copies, Ctrl+Shift+V pastes, Ctrl+Shift+↑ leaves it";
    if (tab.state.ended) made.classList.add("ended");
    if (tab.state.lost) made.classList.add("lost");
    if (tab.state.recorded) made.append(element("span", "bad-text", " ●"));
    const close = button("×", "close", () => this.remove(tab));
    close.setAttribute("aria-label", `Close ${tab.name}`);
    return element("span", "tab-box", made, close);
  }

  opener() {
    const choice = element("select", "", element("option", "", "+ Terminal"), ...this.machines.map((name) => element("option", "", name)));
    choice.setAttribute("aria-label", "Open a terminal on a machine");
    choice.addEventListener("change", () => {
      const machine = choice.value;
      choice.selectedIndex = 0;
      if (this.machines.includes(machine)) this.open(machine, true);
    });
    return choice;
  }

  makeTools(tab, state) {
    if (!tab) return [];
    if (state.ended) return this.watching ? [] : [button("Open again", "primary", () => { this.remove(tab); this.open(tab.machine, true); })];
    const made = [button("Copy", "quiet", () => tab.copy())];
    if (!this.watching) {
      made.push(button("Paste", "quiet", async () => {
        try { tab.screen.paste(await navigator.clipboard.readText()); } catch { this.problem("The browser does not let the page read the clipboard: press Ctrl+Shift+V."); }
        tab.screen.focus();
      }));
      if (!this.me.free) made.push(button(state.invited ? "Teacher may type" : "Invite the teacher", state.invited ? "primary" : "quiet", () => tab.invite(!state.invited)));
    }
    return made;
  }
}
