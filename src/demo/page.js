// The demo's page: a chat client with buttons that misbehave. Everything that arrives is shown as text.
'use strict';

const LINES_MAX = 200;
const AUDIT_EVERY_MS = 3000;
const RECONNECT_AFTER_MS = 3000;
const chat = (text) => ({ type: 'chat:message', text });

const attacks = {
  'Script tag': [chat('hello <script>alert(1)</script><b>there</b> <img src=x onerror=alert(2)>')],
  'Unknown event': [{ type: 'admin:shutdown', text: 'now' }],
  'Prototype pollution': ['{"type":"chat:message","text":"hi","__proto__":{"isAdmin":true}}'],
  'Malformed JSON': ['{"type":"chat:message","text":'],
  'Too long a text': [chat('x'.repeat(20000))],
  'Flood (60 at once)': Array.from({ length: 60 }, (_, n) => chat(`flood ${n + 1}`)),
};

const $ = (id) => document.getElementById(id);
let socket;
let last = { reason: null, item: null, count: 0 };

function element(tag, text, data = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  Object.assign(made.dataset, data);
  return made;
}

function line(list, head, text) {
  const item = document.createElement('li');
  item.append(element('b', head), text);
  list.append(item);
  if (list.children.length > LINES_MAX) list.firstChild.remove();
  list.scrollTop = list.scrollHeight;
  return item;
}

function status(state, text) {
  $('status').dataset.state = state;
  $('status').value = text;
}

function answered(reason, message) {
  if (last.reason === reason) {
    last.count += 1;
    last.item.lastChild.textContent = ` ×${last.count}`;
    return;
  }
  const item = line($('answers'), reason, message);
  item.append(element('small', ''));
  last = { reason, item, count: 1 };
}

function connect(url) {
  socket = new WebSocket(url);
  socket.onopen = () => status('open', 'connected');
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === 'error') answered(message.reason, message.message);
    else line($('chat'), message.from, message.text);
  };
  socket.onclose = ({ code, reason }) => {
    status('closed', 'not connected, trying again…');
    answered(reason || 'closed', code === 1006 ? 'refused or lost; perhaps this address is blocked for some seconds' : `closed with code ${code}`);
    setTimeout(connect, RECONNECT_AFTER_MS, url);
  };
}

function send(messages) {
  last = { reason: null };
  for (const message of messages) {
    if (socket?.readyState !== WebSocket.OPEN) return answered('not connected', 'the message was not sent');
    socket.send(typeof message === 'string' ? message : JSON.stringify(message));
  }
  setTimeout(audit, 500);
}

function row(record) {
  const made = document.createElement('tr');
  const detail = [record.reason, record.eventName].filter(Boolean).join(' · ');
  made.append(
    element('td', new Date(record.timestamp).toLocaleTimeString()),
    element('td', record.severity, { severity: record.severity }),
    element('td', record.eventType),
    element('td', detail || record.message),
  );
  return made;
}

async function audit() {
  const reply = await fetch('/audit').catch(() => null);
  if (!reply) return;
  const rows = reply.ok ? (await reply.json()).map(row) : [element('td', await reply.text())];
  $('audit').replaceChildren(...rows);
}

for (const [name, messages] of Object.entries(attacks)) {
  const button = element('button', name);
  button.onclick = () => send(messages);
  $('attacks').append(button);
}
$('say').onsubmit = (event) => {
  event.preventDefault();
  if ($('text').value) send([chat($('text').value)]);
  $('text').value = '';
};
setInterval(audit, AUDIT_EVERY_MS);
audit();
fetch('/settings').then((reply) => reply.json()).then((settings) => connect(settings.chat));
