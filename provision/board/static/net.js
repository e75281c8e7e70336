// Requests to the board, and WebSockets that connect again.

export class RequestError extends Error {}

async function answer(response) {
  if (response.status === 401) {
    location.replace("/");
    throw new RequestError("this board needs a code");
  }
  const values = await response.json();
  if (!response.ok) throw new RequestError(values.error || `status ${response.status}`);
  return values;
}

export async function get(path, parameters = {}) {
  return answer(await fetch(`${path}?${new URLSearchParams(parameters)}`, { cache: "no-store" }));
}

export async function post(path, values) {
  const headers = { "Content-Type": "application/json" };
  return answer(await fetch(path, { method: "POST", headers, body: JSON.stringify(values) }));
}

export function socketUrl(path, parameters) {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  return `${scheme}://${location.host}${path}?${new URLSearchParams(parameters)}`;
}

const REFUSED = 4403;
const GONE = 4404;
export const isFinal = (code) => code === REFUSED || code === GONE;

// Receives JSON documents; connects again after a pause. "silent" seconds without any mean that the
// connection is dead although nobody has closed it.
export class Live {
  constructor(path, parameters, received, changed) {
    Object.assign(this, { path, parameters, received, changed });
    this.pause = 500;
    this.stopped = false;
    this.connect();
    this.watchdog = setInterval(() => this.check(), 1000);
  }

  connect() {
    this.heard = Date.now();
    this.socket = new WebSocket(socketUrl(this.path, this.parameters));
    this.socket.addEventListener("message", (event) => {
      this.heard = Date.now();
      this.pause = 500;
      this.changed(true, "live");
      this.received(JSON.parse(event.data));
    });
    this.socket.addEventListener("close", (event) => this.closed(event));
  }

  closed(event) {
    if (this.stopped) return;
    if (isFinal(event.code)) {
      this.changed(false, event.reason);
      return;
    }
    this.changed(false, "connection lost, connecting again");
    // A board that was restarted may want the code again.
    fetch("/api/me", { cache: "no-store" }).then((r) => { if (r.status === 401) location.replace("/"); }, () => {});
    setTimeout(() => { if (!this.stopped) this.connect(); }, this.pause);
    this.pause = Math.min(this.pause * 1.6, 5000);
  }

  check() {
    const silent = Date.now() - this.heard;
    if (silent > 12000 && this.socket.readyState === WebSocket.OPEN) this.socket.close();
  }

  stop() {
    this.stopped = true;
    clearInterval(this.watchdog);
    this.socket.close();
  }
}
