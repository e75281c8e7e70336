// The view of one lab: ticket, proofs and hints on the left, topology and terminals on the right.
import { $, button, duration, element, markdown, render } from "./dom.js";
import { get, Live, post } from "./net.js";
import { Terminals } from "./terminals.js";
import { Topology } from "./topology.js";

const REMOTE = /^invoke lab\.ssh (\S+)(?: --lab \S+)? -- (.+)$/;

export class LabView {
  constructor(main, me, team, status) {
    Object.assign(this, { me, team, status, offset: 0, drill: null });
    this.ticket = element("section", "panel ticket");
    this.ticket.setAttribute("aria-label", "Ticket");
    this.proofs = element("section", "panel proofs");
    this.proofs.setAttribute("aria-label", "Proofs");
    this.proofs.setAttribute("aria-live", "polite");
    this.hints = element("section", "panel hints");
    this.hints.setAttribute("aria-label", "Hints");
    this.explain = this.makeExplain();
    this.picture = element("section", "panel picture");
    this.picture.setAttribute("aria-label", "Topology");
    this.shells = element("section", "panel shells");
    this.shells.setAttribute("aria-label", "Terminals");
    const left = element("div", "left", this.ticket, this.proofs, this.hints, this.explain);
    main.append(left, element("div", "right", this.picture, this.shells));
    this.terminals = new Terminals(this.shells, me, team, (text) => this.problem(text));
    this.topology = new Topology(this.picture, (machine) => this.terminals.open(machine));
    this.live = new Live("/ws/lab", { team }, (doc) => this.show(doc), status);
    this.timer = setInterval(() => this.tick(), 500);
  }

  stop() {
    clearInterval(this.timer);
    this.live.stop();
    this.terminals.stop();
    this.topology.stop();
  }

  show(doc) {
    this.offset = doc.now - Date.now() / 1000;
    this.drill = doc.drill;
    $("heading").replaceChildren(doc.scene.site || "Lab board", element("small", "", `lab ${doc.lab}${doc.topology ? `, ${doc.topology}` : ""}`));
    document.title = `${doc.drill && !doc.drill.ended ? `${doc.drill.title} · ` : ""}${doc.lab}`;
    $("recorded").hidden = !doc.recording;
    $("recorded").title = "The teacher records what the terminals show";
    this.showActivity(doc);
    this.showTicket(doc);
    this.showProofs(doc);
    this.showHints(doc);
    this.topology.show(doc.scene, doc.problem);
    this.terminals.show(doc.machines, doc.terminals);
    this.tick();
  }

  tick() {
    const drill = this.drill;
    const running = drill && drill.begun && !drill.ended;
    $("clock").hidden = !running;
    if (!running) return;
    const until = drill.solved || Date.now() / 1000 + this.offset;
    const left = drill.minutes * 60 - (until - drill.started);
    $("clock").textContent = drill.solved ? `solved in ${duration(drill.solved - drill.started)}` : left >= 0 ? `${duration(left)} left` : `${duration(-left)} over`;
    $("clock").className = `clock ${drill.solved ? "good-text" : left < 0 ? "bad-text" : left < 120 ? "warn-text" : ""}`;
  }

  problem(text) {
    const made = element("p", "notice bad", element("span", "what", text), button("Close", "quiet", () => made.remove()));
    $("problems").append(made);
    setTimeout(() => made.remove(), 20000);
  }

  async act(kind, values = {}) {
    try {
      await post("/api/act", { kind, team: this.team, ...values });
    } catch (error) {
      this.problem(error.message);
    }
  }

  showActivity(doc) {
    const activity = doc.activity && (doc.activity.running || doc.now - doc.activity.time < 30) ? doc.activity : null;
    const testing = doc.testing;
    const target = $("activity");
    render(target, [activity, testing], () => {
      if (activity?.running) return element("p", "notice info", element("b", "", `${activity.kind} …`), element("span", "what", activity.lines.at(-1) || "working"));
      if (testing) return element("p", "notice info", element("b", "", "all proofs hold, testing"), element("span", "what", testing));
      if (activity?.error) return element("p", "notice bad", element("b", "", `${activity.kind}:`), element("span", "what", activity.error));
      if (activity?.result) return element("p", "notice info", element("b", "", `${activity.kind}:`), element("span", "what", activity.result));
      return [];
    });
  }

  // A command in a text: one of a machine is typed into its terminal, one of the controller is
  // copied. A single word is a name, not a command.
  command(text) {
    const line = text.trim();
    const remote = REMOTE.exec(line);
    const local = !remote && /^invoke [a-z]+\.[a-z-]+/.test(line);
    const made = element("code", "", text);
    if (!/^[a-z][\w./-]* \S/.test(line)) return made;
    made.classList.add("command");
    made.tabIndex = 0;
    made.setAttribute("role", "button");
    made.title = local ? "A command of the controller: click to copy it" : `Click to type it ${remote ? `on ${remote[1]}` : "into the terminal"}; Enter runs it`;
    const copy = async () => {
      try { await navigator.clipboard.writeText(line); made.dataset.done = "copied"; } catch { getSelection().selectAllChildren(made); }
      setTimeout(() => delete made.dataset.done, 1500);
    };
    const use = local ? copy : () => this.terminals.type(remote ? remote[2] : line, remote?.[1]);
    made.addEventListener("click", use);
    made.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      use();
    });
    return made;
  }

  nodes(nodes) {
    return markdown(nodes, (text) => this.command(text));
  }

  showTicket(doc) {
    const drill = doc.drill;
    const busy = Boolean(doc.activity?.running);
    const values = drill ? [drill.run, drill.title, drill.story, drill.begun, drill.ended, drill.solved, drill.outcome, drill.lesson, drill.exam, busy] : [null, busy];
    render(this.ticket, values, () => {
      if (!drill) return this.noDrill(busy);
      const facts = [drill.level && `level ${drill.level}`, drill.layer, `${drill.minutes} min`, drill.exam && "exam"].filter(Boolean).join(" · ");
      const head = element("div", "head", element("h2", "", drill.title), element("small", "", facts));
      const parts = [head];
      if (drill.ended) parts.push(element("p", `notice ${drill.outcome === "solved" ? "good" : "bad"}`, `This drill has ended: ${drill.outcome}.`));
      else if (drill.solved) parts.push(element("p", "notice good", "Solved. The fault is fixed, and the fix lasts."));
      if (!drill.begun && !drill.ended) parts.push(element("p", "soft", "The drill is being prepared."));
      parts.push(element("div", "story", ...this.nodes(drill.story || [])));
      if (drill.lesson) parts.push(element("h3", "", "Lesson"), element("div", "story", ...this.nodes(drill.lesson)));
      if (drill.ended) parts.push(this.starter(busy));
      else parts.push(this.ending(drill, busy));
      return parts;
    });
  }

  noDrill(busy) {
    return [
      element("div", "head", element("h2", "", "No incident")),
      element("p", "soft", this.me.free ? "Start a drill: something breaks, and you fix it." : "The teacher starts a drill."),
      this.starter(busy),
    ];
  }

  // The list of drills is asked for once; the choice stays when the ticket is drawn again.
  starter(busy) {
    if (!this.me.free) return element("span");
    if (!this.choice) {
      this.choice = element("select");
      this.choice.setAttribute("aria-label", "Drill");
      get("/api/drills", { team: this.team }).then(({ drills }) => {
        this.choice.replaceChildren(...drills.map((one) => {
          const option = element("option", "", `${one.level} · ${one.title} (${one.minutes} min)`);
          option.value = one.id;
          return option;
        }));
      }, (error) => this.problem(error.message));
    }
    const start = button("Start", "primary", () => this.act("start", { drill: this.choice.value }));
    start.disabled = busy;
    return element("div", "row", this.choice, start);
  }

  ending(drill, busy) {
    const row = element("div", "row");
    const add = (text, kind, question) => {
      const made = button(text, kind === "finish" && drill.solved ? "primary" : "", () => { if (!question || confirm(question)) this.act(kind); });
      made.disabled = busy;
      row.append(made);
    };
    if (!drill.solved) add("Reset", "reset", "Cause the fault again, from the beginning?");
    if (this.me.free) add("Finish", "finish", drill.solved ? "" : "End the drill unsolved?");
    return row;
  }

  showProofs(doc) {
    const drill = doc.drill;
    const busy = Boolean(doc.activity?.running) || Boolean(doc.testing);
    this.proofs.hidden = !drill || !drill.proofs.length;
    if (this.proofs.hidden) return;
    const open = drill.begun && !drill.ended && !drill.solved;
    render(this.proofs, [drill.proofs, drill.checks, drill.shortcuts, open, busy], () => {
      const held = drill.proofs.filter((proof) => proof.held).length;
      const head = element("div", "head", element("h2", "", "Proofs"), element("small", "", `${held} of ${drill.proofs.length} hold`));
      const list = element("ul", "proof-list", ...drill.proofs.map((proof) => {
        const kind = proof.held ? "good" : proof.held === false ? "bad" : "";
        const after = proof.after && !/\bafter\b/.test(proof.name) ? ` (after ${proof.after})` : "";
        const mark = element("span", `mark ${kind}`, proof.held ? "✓" : proof.held === false ? "✗" : "…");
        mark.setAttribute("role", "img");
        mark.setAttribute("aria-label", proof.held ? "holds" : proof.held === false ? "does not hold" : "not tested yet");
        const item = element("li", kind, mark, element("span", "", proof.name + after));
        if (proof.got) item.append(element("small", "", proof.got));
        return item;
      }));
      const parts = [head, list];
      for (const text of drill.shortcuts) parts.push(element("p", "bad-text", `does not count: ${text}`));
      if (open) {
        const check = button("Check now", "", () => this.act("check"));
        check.disabled = busy;
        parts.push(element("div", "row", check, element("small", "", `${drill.checks} check${drill.checks === 1 ? "" : "s"}; it completes by itself when all hold`)));
      }
      return parts;
    });
  }

  showHints(doc) {
    const drill = doc.drill;
    const busy = Boolean(doc.activity?.running);
    this.hints.hidden = !drill;
    if (!drill) return;
    const open = drill.begun && !drill.ended && !drill.solved;
    render(this.hints, [drill.hints, drill.hints_left, open, busy], () => {
      const head = element("div", "head", element("h2", "", "Hints"), element("small", "", `${drill.hints.length} taken, ${drill.hints_left} left`));
      const list = element("ol", "", ...drill.hints.map((nodes) => element("li", "", ...this.nodes(nodes))));
      const parts = [head, list];
      if (open && drill.hints_left) {
        const ask = button("Next hint", "", () => this.act("hint"));
        ask.disabled = busy;
        parts.push(element("div", "row", ask));
      }
      return parts;
    });
  }

  makeExplain() {
    const text = element("div", "story");
    const choice = element("select", "", element("option", "", "Choose a question"));
    choice.setAttribute("aria-label", "Question");
    for (const [topic, question] of Object.entries(this.me.topics)) {
      const option = element("option", "", question);
      option.value = topic;
      choice.append(option);
    }
    choice.addEventListener("change", async () => {
      if (!this.me.topics[choice.value]) return text.replaceChildren();
      try {
        const values = await get("/api/explain", { team: this.team, topic: choice.value });
        text.replaceChildren(...this.nodes(values.text));
      } catch (error) {
        this.problem(error.message);
      }
    });
    const made = element("section", "panel explain", element("div", "head", element("h2", "", "Explain")), choice, text);
    made.setAttribute("aria-label", "Explanations");
    return made;
  }
}
