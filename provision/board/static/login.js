// Exchanges a code for a cookie. The code may follow "#code=" in the address: a browser does not send
// that part.
const form = document.getElementById("login");
const field = document.getElementById("code");
const problem = document.getElementById("problem");

async function send(code) {
  problem.textContent = "";
  try {
    const response = await fetch("/api/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ code }),
    });
    if (response.ok) {
      location.replace("/");
      return;
    }
    problem.textContent = (await response.json()).error;
  } catch {
    problem.textContent = "The board does not respond.";
  }
  field.focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  send(field.value);
});
const given = new URLSearchParams(location.hash.slice(1)).get("code");
if (given) {
  history.replaceState(null, "", "/");
  field.value = given;
  send(given);
} else {
  field.focus();
}
