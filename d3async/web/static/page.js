"use strict";
// The pages work without this script. It adds: a file dropped anywhere, live numbers, search while typing.

for (const form of document.querySelectorAll("[data-drop]")) {
  const input = form.querySelector("input[type=file]");
  form.querySelector("[data-hint]").textContent = "Or drop the file anywhere on this page.";
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", () => document.body.classList.remove("dragging"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    if (event.dataTransfer.files.length) {
      input.files = event.dataTransfer.files;
      form.requestSubmit();
    }
  });
  input.addEventListener("change", () => input.files.length && form.requestSubmit());
}

for (const live of document.querySelectorAll("[data-live]")) {
  const connection = document.getElementById("connection");
  const title = document.title;
  let stream = null;
  let spoken = 0;
  const show = (event) => {
    connection.textContent = "";
    const seen = JSON.parse(event.data);
    for (const [name, text] of Object.entries(seen.texts)) {
      const place = live.querySelector(`[data-field="${name}"]`);
      if (place && place.textContent !== text) place.textContent = text;
    }
    const bar = live.querySelector("progress");
    bar.max = Math.max(seen.rows, 1);
    bar.value = seen.done;
    document.title = `${seen.percent} % · ${title}`;
    if (Date.now() - spoken > 10000) {
      spoken = Date.now();
      live.querySelector("[data-summary]").textContent = seen.summary;
    }
  };
  const open = () => {
    stream = new EventSource(live.dataset.live);
    stream.onmessage = show;
    stream.addEventListener("end", () => location.reload());
    stream.onerror = () => { connection.textContent = "Connection lost. The run goes on; trying again."; };
  };
  document.addEventListener("visibilitychange", () => {
    if (stream) stream.close();
    if (!document.hidden) open();
  });
  if (!document.hidden) open();
}

for (const form of document.querySelectorAll("[data-search]")) {
  let waiting = 0;
  form.querySelector("input[type=search]").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const address = `${form.getAttribute("action")}?${new URLSearchParams(new FormData(form))}`;
      const request = new XMLHttpRequest();
      request.open("GET", address);
      request.responseType = "document";
      request.onload = () => {
        const found = request.response && request.response.getElementById("found");
        if (found) document.getElementById("found").replaceWith(document.adoptNode(found));
        history.replaceState(null, "", address);
      };
      request.send();
    }, 250);
  });
}
