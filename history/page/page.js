(() => {
'use strict';

const $ = id => document.getElementById(id);
const root = document.documentElement;
root.classList.add('js');

// The data. Times are milliseconds from its base on, -1 where there is none.

const data = JSON.parse($('data').textContent);
const HOLD = 0, GAVE_UP = 1, KILLED = 2, TOOK_OVER = 3, HEALED = 4, LOST = 5, FORCED = 6;
const FIELDS = 'kind db at req acq rel flags process command info host pid uid token waited held ended code signal heals ahead by'.split(' ');
const userOf = uid => uid < 0 ? '' : data.users[uid] || String(uid);
const textAt = n => data.texts[n];
const partyOf = ([pid, uid, process, command, token, ms]) => ({ pid, user: userOf(uid), process: textAt(process), command: textAt(command), token, ms });

const events = data.rows.map(row => {
	const e = { blockers: row.slice(FIELDS.length).map(partyOf), victims: [] };
	FIELDS.forEach((name, i) => { e[name] = row[i] || 0; });
	for (const name of ['process', 'command', 'info', 'host', 'ended']) e[name] = textAt(e[name]);
	e.user = userOf(e.uid);
	e.by &&= partyOf(e.by);
	e.shared = e.flags & 1;
	e.span = e.req >= 0; // it lasts; the others happen at a moment
	e.from = e.span ? e.req : e.at;
	e.start = e.kind === GAVE_UP ? e.at : e.acq; // the end of its wait
	e.to = Math.max(e.from, e.kind === HOLD ? e.rel : e.at);
	e.mark = ['', 'gaveUp', 'killed', 'tookOver', 'healed', 'lost', 'forced'][e.kind];
	if (e.ended === 'time-limit') e.mark = 'late';
	if (e.ended === 'signaled' || e.code) e.mark = 'failed';
	return e;
});

// Who waited for which hold: readers who share a lock have one token, so that the pid counts.
const holds = new Map();
for (const e of events) {
	if (e.acq < 0 || !e.token) continue;
	holds.set(`${e.db} ${e.token} ${e.pid}`, e);
	holds.set(`${e.db} ${e.token}`, e);
}
const holdOf = (db, p) => p.token ? holds.get(`${db} ${p.token} ${p.pid}`) || holds.get(`${db} ${p.token}`) : undefined;
for (const e of events) {
	if (!e.span) e.hold = holdOf(e.db, e);
	for (const b of e.blockers) {
		b.hold = holdOf(e.db, b);
		b.hold?.victims.push(e);
	}
}

// The symbols are those of the legend, which shows the ones that there are.
const MARKS = {};
for (const item of document.querySelectorAll('#legend [id]')) {
	const name = item.id.slice(2), path = item.querySelector('path');
	MARKS[name] = { path: new Path2D(path.getAttribute('d')), open: path.matches('.open'), color: path.matches('.bad') ? 'bad' : 'mark', words: item.textContent };
	item.hidden = !events.some(e => e.mark === name);
}

// Words for people.

let utc = false;
const formats = new Map();
function format(ms, options) {
	const key = JSON.stringify(options) + utc;
	let f = formats.get(key);
	if (!f) formats.set(key, f = new Intl.DateTimeFormat('en-GB', { ...options, hourCycle: 'h23', timeZone: utc ? 'UTC' : undefined }));
	return f.format(data.base + ms);
}
const clock = { hour: '2-digit', minute: '2-digit' }, seconds = { ...clock, second: '2-digit' }, fraction = { ...seconds, fractionalSecondDigits: 3 };
const day = { weekday: 'short', day: 'numeric', month: 'short' };
const short = t => format(t, { ...day, ...seconds }), moment = t => format(t, { ...day, ...fraction });
const zoneName = () => format(0, { timeZoneName: 'short' }).split(' ').pop();

// duration is that of figures.go.
function duration(ms) {
	const s = Math.round(ms / 1000);
	if (!ms) return '0';
	if (ms < 9.95) return ms.toFixed(1) + ' ms';
	if (ms < 999.5) return ms.toFixed(0) + ' ms';
	if (ms < 9950) return (ms / 1000).toFixed(1) + ' s';
	if (s < 60) return s + ' s';
	if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
	return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
}
const count = n => n.toLocaleString('en-US');
const percent = f => (100 * f).toFixed(f > 0 && f < 0.0995 ? 1 : 0) + ' %';
const labelOf = p => p.process || '(no label)';
const whoOf = p => labelOf(p) + (p.command && p.command !== p.process ? ` (${p.command}, pid ${p.pid})` : p.pid ? ` (pid ${p.pid})` : '');

function make(name, attributes = {}, ...children) {
	const svg = ['svg', 'rect', 'line', 'text', 'title'].includes(name);
	const el = document.createElementNS(`http://www.w3.org/${svg ? '2000/svg' : '1999/xhtml'}`, name);
	for (const [k, v] of Object.entries(attributes)) el.setAttribute(k, v);
	el.append(...children);
	return el;
}

// The filter.

const choices = { database: e => data.databases[e.db], label: labelOf, command: e => e.command, user: e => e.user };
for (const [name, of] of Object.entries(choices)) {
	const counts = new Map();
	for (const e of events) counts.set(of(e), (counts.get(of(e)) || 0) + 1);
	const values = [...counts.keys()].filter(Boolean).sort((a, b) => counts.get(b) - counts.get(a)).slice(0, 300);
	$(name).append(make('option', { value: '' }, `Every ${name}`), ...values.map(v => make('option', { value: v }, v)));
	$(name).hidden = values.length < 2;
}

const textOf = e => e.text ??= [data.databases[e.db], labelOf(e), e.command, e.user, e.info, e.host, e.pid, e.token, MARKS[e.mark]?.words, e.ended, e.by ? whoOf(e.by) : ''].join('\n').toLowerCase();

let shown = events; // what the filter lets through, in the order of their beginnings
let filtered = false;
function filter() {
	const words = $('text').value.toLowerCase().split(/\s+/).filter(Boolean);
	const wanted = Object.entries(choices).filter(([name]) => $(name).value).map(([name, of]) => [of, $(name).value]);
	const waited = $('waited').checked, wrong = $('wrong').checked;
	filtered = words.length + wanted.length > 0 || waited || wrong;
	shown = events.filter(e => wanted.every(([of, v]) => of(e) === v) && (!waited || e.waited || e.kind === GAVE_UP) && (!wrong || e.mark) && words.every(w => textOf(e).includes(w)));
	shown.sort((a, b) => a.from - b.from);
	if (selected && !shown.includes(selected)) select(null);
	layOut();
	changed();
}

// The lanes: one for each label of each database, the busiest first, with as many rows as it
// takes for those who are there at the same time, up to some.

const MOST_LANES = 40, MOST_ROWS = 6, ROW = 16;
let groups = [];
function layOut() {
	const lanesOf = data.databases.map(() => new Map());
	for (const e of shown) {
		const lanes = lanesOf[e.db];
		let lane = lanes.get(e.process);
		if (!lane) lanes.set(e.process, lane = { name: labelOf(e), all: [], weight: 0 });
		lane.all.push(e);
		lane.weight += e.waited + e.held + 1;
	}
	groups = [];
	lanesOf.forEach((lanes, db) => {
		if (!lanes.size) return;
		const sorted = [...lanes.values()].sort((a, b) => b.weight - a.weight);
		if (sorted.length > MOST_LANES) {
			const rest = sorted.splice(MOST_LANES - 1);
			sorted.push({ name: `${rest.length} other labels`, all: rest.flatMap(l => l.all).sort((a, b) => a.from - b.from) });
		}
		for (const lane of sorted) pack(lane);
		groups.push({ db, name: data.databases[db], lanes: sorted, all: sorted.flatMap(l => l.all) });
	});
}

function pack(lane) {
	lane.rows = [];
	const more = () => lane.rows[lane.rows.push({ items: [], until: [], end: -1, notes: [] }) - 1];
	for (const e of lane.all) {
		if (!e.span) continue;
		let row = lane.rows.find(r => r.end <= e.from);
		if (!row && lane.rows.length < MOST_ROWS) row = more();
		row ??= lane.rows.reduce((a, b) => a.end <= b.end ? a : b);
		e.row = row;
		row.items.push(e);
		row.until.push(row.end = Math.max(row.end, e.to)); // rises, so that it can be searched
	}
	if (!lane.rows.length) more();
	// What happened to a hold is marked on that.
	for (const e of lane.all) {
		if (e.span) continue;
		e.row = lane.rows.includes(e.hold?.row) ? e.hold.row : lane.rows[0];
		e.row.notes.push(e);
	}
}

// first is the index of the first item that is not over at that time.
function first(row, t) {
	let lo = 0, hi = row.items.length;
	while (lo < hi) {
		const mid = (lo + hi) >> 1;
		if (row.until[mid] < t) lo = mid + 1; else hi = mid;
	}
	return lo;
}

// The view: which time is shown.

const last = events.reduce((t, e) => Math.max(t, e.to), 1);
const whole = { from: -last * 0.012, to: last * 1.012 };
const view = { from: whole.from, to: whole.to };
const inView = () => shown.filter(e => e.to >= view.from && e.from <= view.to);
const zoomed = () => view.to - view.from < (whole.to - whole.from) * 0.9999;

function look(from, to) {
	const span = Math.min(Math.max(to - from, 5), whole.to - whole.from);
	from = Math.max(whole.from, Math.min((from + to - span) / 2, whole.to - span));
	view.from = from;
	view.to = from + span;
	changed();
}
function zoom(factor, at = (view.from + view.to) / 2) {
	const span = Math.min(Math.max((view.to - view.from) * factor, 5), whole.to - whole.from);
	const from = at - (at - view.from) / (view.to - view.from) * span;
	look(from, from + span);
}
const move = part => { const d = (view.to - view.from) * part; look(view.from + d, view.to + d); };
const everything = () => look(whole.from, whole.to);

// Drawing.

const canvas = $('timeline'), ctx = canvas.getContext('2d');
const AXIS = 30, STRIP = 44;
const colors = {};
let width = 0, left = 0, places = [], marks = [];
const xOf = t => left + (t - view.from) / (view.to - view.from) * (width - left);
const tOf = x => view.from + (x - left) / (width - left) * (view.to - view.from);
const FONT = '12px system-ui, sans-serif';

function readColors() {
	const probe = document.body.appendChild(make('i'));
	for (const name of 'card ink soft line grid lane hold shared wait bad mark focus'.split(' ')) {
		probe.style.color = `var(--${name})`;
		colors[name] = getComputedStyle(probe).color;
	}
	probe.remove();
}
const rect = (color, x, y, w, h) => { ctx.fillStyle = colors[color]; ctx.fillRect(x, y, w, h); };
function write(color, text, x, y, align = 'left') {
	ctx.fillStyle = colors[color];
	ctx.textAlign = align;
	ctx.fillText(text, x, y);
}

// place gives every lane its room, from top to bottom.
function place() {
	width = Math.floor(canvas.parentNode.clientWidth);
	const narrow = width < 600;
	ctx.font = FONT;
	const longest = Math.max(60, ...groups.flatMap(g => g.lanes.map(l => ctx.measureText(l.name).width)));
	left = narrow ? 0 : Math.min(Math.ceil(longest) + 14, 200);
	let y = AXIS;
	for (const g of groups) {
		g.y = y + 18;
		y = g.y + STRIP + 8;
		for (const lane of g.lanes) {
			lane.y = y;
			y += narrow ? 17 : 4;
			for (const row of lane.rows) { row.y = y + ROW / 2; y += ROW; }
			y += 4;
			lane.h = y - lane.y;
		}
		y += 6;
	}
	return Math.max(y, 120);
}

function draw() {
	const height = place(), scale = Math.min(devicePixelRatio || 1, 3);
	canvas.width = width * scale; // and clears it
	canvas.height = height * scale;
	ctx.scale(scale, scale);
	ctx.font = FONT;
	ctx.textBaseline = 'middle';
	marks = [];
	places = [];
	$('empty').hidden = groups.length > 0;
	for (const g of groups) g.lanes.forEach((lane, i) => {
		if (i % 2 === 0) rect('lane', 0, lane.y, width, lane.h);
	});
	drawAxis(height);
	for (const g of groups) {
		drawStrip(g);
		for (const lane of g.lanes) {
			write('ink', fit(lane.name, (left || width) - 12), left ? 6 : 3, lane.y + (left ? 4 + ROW / 2 : 9));
			for (const row of lane.rows) {
				places.push({ top: row.y - ROW / 2, bottom: row.y + ROW / 2, row });
				drawRow(row);
			}
		}
	}
	drawLines();
	for (const m of marks) drawMark(m);
	drawFocus();
	$('range').textContent = events.length ? `${short(view.from)} to ${short(view.to)} ${zoneName()}, ${duration(view.to - view.from)}` : '';
}

function fit(s, room) {
	if (ctx.measureText(s).width <= room) return s;
	while (s && ctx.measureText(s + '…').width > room) s = s.slice(0, -1);
	return s + '…';
}

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 108e5, 216e5, 432e5, 864e5, 1728e5, 6048e5, 2592e6];
function drawAxis(height) {
	const perPixel = (view.to - view.from) / (width - left), room = width < 600 ? 70 : 95;
	const step = STEPS.find(s => s / perPixel >= room) || (view.to - view.from) / 4;
	const off = data.base - (utc ? 0 : new Date(data.base + view.from).getTimezoneOffset() * 6e4);
	for (let t = Math.ceil((view.from + off) / step) * step - off; t <= view.to; t += step) {
		const x = Math.round(xOf(t)) + 0.5;
		const midnight = (t + off) % 864e5 === 0;
		rect(midnight ? 'line' : 'grid', x - 0.5, AXIS - 6, 1, height - AXIS);
		const text = format(t, midnight && step >= 6e4 ? { day: 'numeric', month: 'short' } : step >= 6e4 ? clock : step >= 1e3 ? seconds : fraction);
		const half = ctx.measureText(text).width / 2;
		if (x - half >= left && x + half <= width) write(midnight ? 'ink' : 'soft', text, x, AXIS / 2 - 2, 'center');
	}
}

// cover adds a time to the pixels that it is on: to each the part of it that is covered.
function cover(pixels, a, b) {
	a = Math.max(a - left, 0);
	b = Math.min(b - left, pixels.length);
	if (b <= a) { if (b === a && a < pixels.length) pixels[Math.floor(a)] += 0.02; return; }
	const i = Math.floor(a), j = Math.min(Math.floor(b), pixels.length - 1);
	if (i === j) { pixels[i] += b - a; return; }
	pixels[i] += i + 1 - a;
	for (let k = i + 1; k < j; k++) pixels[k] += 1;
	pixels[j] += b - j;
}

// drawStrip shows of a database how much of the time the lock was in use, as a band, and how
// many waited, as a mountain over it.
function drawStrip(g) {
	const n = Math.max(1, width - left), busy = new Float32Array(n), queue = new Float32Array(n);
	for (const e of g.all) {
		if (!e.span || e.to < view.from || e.from > view.to) continue;
		if (e.acq >= 0) cover(busy, xOf(e.acq), xOf(e.rel));
		if (e.start > e.from && e.waited) cover(queue, xOf(e.from), xOf(e.start));
	}
	let most = 0;
	for (const q of queue) most = Math.max(most, q);
	g.busy = busy;
	g.queue = queue;
	ctx.font = '600 ' + FONT;
	write('ink', fit(g.name, width - 130), 6, g.y - 8);
	ctx.font = FONT;
	if (most >= 0.5) write('soft', `at most about ${Math.round(most)} waiting`, width - 4, g.y - 8, 'right');
	if (left) { write('soft', 'waiting', 6, g.y + 22); write('soft', 'in use', 6, g.y + STRIP - 5); }
	const base = g.y + STRIP - 11, high = STRIP - 12, top = Math.max(3, most);
	for (let i = 0; i < n; i++) {
		const h = queue[i] > 0.01 ? Math.max(1, queue[i] / top * high) : 0;
		rect('wait', left + i, base - h, 1, h);
		ctx.globalAlpha = busy[i] && 0.15 + 0.85 * Math.min(1, busy[i]);
		rect('hold', left + i, base + 2, 1, 9);
		ctx.globalAlpha = 1;
	}
	rect('line', left, base, n, 1);
	places.push({ top: g.y, bottom: g.y + STRIP, group: g });
}

// drawRow draws each one that is large enough; of the others how much there is in each pixel:
// holds from below, waits on them.
const SMALL = 2.5;
let dense = [];
function drawRow(row) {
	const n = Math.max(1, width - left), y = row.y, large = [];
	if (dense[0]?.length !== n) dense = [0, 0, 0].map(() => new Float32Array(n));
	const [held, shared, waits] = dense;
	let any = false;
	for (let i = first(row, view.from); i < row.items.length; i++) {
		const e = row.items[i];
		if (e.from > view.to) break;
		if (e.to < view.from) continue;
		const a = xOf(e.from), c = xOf(e.to);
		if (e.mark) mark(row, e, c);
		if (c - a >= SMALL) { large.push(e); continue; }
		any = true;
		const b = e.start >= 0 ? xOf(e.start) : a;
		if (e.waited) cover(waits, a, b);
		if (e.acq >= 0) cover(e.shared ? shared : held, b, c);
	}
	for (let i = 0; any && i < n; i++) {
		let from = y + 6;
		dense.forEach((pixels, k) => {
			if (!pixels[i]) return;
			const h = Math.min(Math.max(2, 12 * Math.sqrt(pixels[i])), from - y + 6);
			rect(['hold', 'shared', 'wait'][k], left + i, from -= h, 1, h);
			pixels[i] = 0;
		});
	}
	const clip = t => Math.max(left, Math.min(xOf(t), width));
	for (const e of large) {
		const a = clip(e.from), b = clip(e.start);
		if (e.waited && b > a) rect('wait', a, y - 2, b - a, 4);
	}
	for (const e of large) {
		if (e.acq < 0 || e.rel < view.from || e.acq > view.to) continue;
		const b = clip(e.acq), w = Math.max(1, clip(e.rel) - b);
		if (e.shared && w > 4) { // hollow
			ctx.globalAlpha = 0.3;
			rect('shared', b, y - 6, w, 12);
			ctx.globalAlpha = 1;
			ctx.strokeStyle = colors.shared;
			ctx.lineWidth = 1.5;
			ctx.strokeRect(b + 0.75, y - 5.25, w - 1.5, 10.5);
		} else rect(e.shared ? 'shared' : 'hold', b, y - 6, w > 6 ? w - 0.5 : w, 12);
	}
	for (const e of row.notes) if (e.at >= view.from && e.at <= view.to) mark(row, e, xOf(e.at));
}

// mark remembers a symbol, unless one like it is beside it.
function mark(row, e, x) {
	if (x < left || x > width) return;
	if (!marks.some(m => m.row === row && m.e.mark === e.mark && Math.abs(m.x - x) < 14)) marks.push({ row, e, x: Math.min(x, width - 6), y: row.y });
}

function drawMark({ e, x, y }) {
	const { path, open, color } = MARKS[e.mark];
	ctx.save();
	ctx.translate(x, y);
	ctx.lineJoin = ctx.lineCap = 'round';
	ctx.strokeStyle = colors.card;
	ctx.lineWidth = open ? 6 : 4;
	ctx.stroke(path);
	ctx.strokeStyle = ctx.fillStyle = colors[color];
	ctx.lineWidth = 2.2;
	if (open) ctx.stroke(path); else ctx.fill(path);
	ctx.restore();
}

// drawLines leads from those who waited to those they waited for: for what is selected, and
// for all if they are few.
function drawLines() {
	const focus = focused();
	if (focus) {
		for (const b of focus.blockers) if (b.hold) line(focus, b.hold, true);
		for (const v of focus.victims) line(v, focus, true);
		return;
	}
	const all = inView().filter(e => e.blockers.length && xOf(e.start) - xOf(e.from) >= SMALL);
	if (all.length < 15) for (const e of all) for (const b of e.blockers) if (b.hold) line(e, b.hold, false);
}

function line(waiter, hold, strong) {
	if (!visible(waiter) || !visible(hold) || waiter.row === hold.row) return;
	const x = xOf(Math.max(waiter.from, Math.min(hold.rel, waiter.start)));
	if (x < left || x > width) return;
	const up = hold.row.y < waiter.row.y ? -1 : 1, a = waiter.row.y + 3 * up, b = hold.row.y - 7 * up;
	ctx.strokeStyle = ctx.fillStyle = strong ? colors.focus : colors.soft;
	ctx.globalAlpha = strong ? 0.9 : 0.65;
	ctx.lineWidth = strong ? 1.6 : 1;
	ctx.beginPath();
	ctx.moveTo(x, a);
	ctx.quadraticCurveTo(x + 16, (a + b) / 2, x, b);
	ctx.stroke();
	ctx.beginPath();
	ctx.moveTo(x - 0.5, b + up * 1);
	ctx.lineTo(x + 5, b - 5 * up);
	ctx.lineTo(x - 2.5, b - 6 * up);
	ctx.fill();
	ctx.globalAlpha = 1;
}
const visible = e => e.row && places.some(p => p.row === e.row);

function drawFocus() {
	const e = focused();
	if (!e || !visible(e)) return;
	ctx.strokeStyle = colors.focus;
	const box = (e, w) => {
		const a = Math.max(left, xOf(e.from)), c = Math.min(width, Math.max(xOf(e.to), a + 2));
		if (c < left || a > width) return;
		ctx.lineWidth = w;
		ctx.strokeRect(a - 2, e.row.y - 8, c - a + 4, 16);
	};
	box(e, 2);
	for (const b of e.blockers) if (b.hold && visible(b.hold)) box(b.hold, 1);
	for (const v of e.victims) if (visible(v)) box(v, 1);
}

// What the pointer is at.

let hovered = null, selected = null;
const focused = () => selected || hovered?.e;

// find is what is at that place: one event, or how many there are.
function find(x, y) {
	let best = null, distance = 10;
	for (const m of marks) {
		const d = Math.hypot(m.x - x, m.y - y);
		if (d < distance) { best = m.e; distance = d; }
	}
	if (best) return { e: best };
	const at = places.find(p => y >= p.top && y < p.bottom);
	if (!at || x < left) return null;
	if (at.group) return { group: at.group, pixel: Math.floor(x - left) };
	const t = tOf(x), reach = tOf(x + 4) - t, near = [];
	let small = 0;
	for (let i = first(at.row, t - reach); i < at.row.items.length; i++) {
		const e = at.row.items[i];
		if (e.from > t + reach) break;
		if (e.to < t - reach) continue;
		near.push([Math.max(e.from - t, t - e.to, 0), e]);
		if (xOf(e.to) - xOf(e.from) < SMALL) small++;
	}
	if (!near.length) return null;
	near.sort((a, b) => a[0] - b[0] || (a[1].to - a[1].from) - (b[1].to - b[1].from));
	if (small > 1 && small === near.length) return { many: near.map(n => n[1]) };
	return { e: near[0][1] };
}

// The tooltip.

function howOf(e) {
	const who = e.by && whoOf(e.by) + (e.by.user && `, user ${e.by.user}`), by = word => who ? ` ${word} ${who}` : '';
	switch (e.kind) {
		case GAVE_UP: return { busy: 'Did not wait: the lock was held', deadlock: 'Gave up: it would have waited for ever', interrupted: 'Was ended while it waited' + (e.signal ? `, by signal ${e.signal}` : '') }[e.ended] || 'Gave up waiting';
		case KILLED: return 'Its dblock was killed in the middle of this hold' + by('- found by');
		case TOOK_OVER: return 'Another program\u2019s stale lock, taken over' + by('by');
		case HEALED: return 'Its lock file was removed, and put back';
		case LOST: return 'The lock was lost while its command ran' + by('to');
		case FORCED: return 'Ended by force' + by('by');
	}
	switch (e.ended) {
		case 'exited': return e.code ? `Failed with exit code ${e.code}` : 'Held, and ended well';
		case 'signaled': return `Held; its command died of signal ${e.signal}`;
		case 'time-limit': return 'Ended, since its time was up';
		case 'lost': return 'Lost' + by('to');
	}
	return 'Held, and released';
}

function factsOf(e) {
	const facts = [];
	const fact = (name, value) => value && facts.push([name, value]);
	if (data.databases.length > 1) fact('Database', data.databases[e.db]);
	fact('Command', e.command);
	fact('Info', e.info);
	fact('Process', `pid ${e.pid}${e.host ? ' on ' + e.host : ''}${e.user ? ', user ' + e.user : ''}`);
	if (e.span) fact('Mode', (e.shared ? 'shared' : 'exclusive') + ['', '', ', low priority', '', ', high priority'][e.flags & 6]);
	const whole = e.kind === HOLD || e.kind === GAVE_UP, more = e.ahead - e.blockers.length;
	if (whole) fact('Waited', duration(e.waited) + (e.ahead ? `, for ${e.ahead}` : ''));
	e.blockers.forEach((b, i) => fact(i ? '' : 'Waited for', `${whoOf(b)}, ${duration(b.ms)}`));
	if (more > 0) fact('', `and ${more} more`);
	if (e.acq >= 0) fact('Held', duration(e.held) + (e.kind === KILLED ? ' at least' : ''));
	if (e.victims.length) fact('Kept waiting', `${e.victims.length}: ${[...new Set(e.victims.map(labelOf))].slice(0, 6).join(', ')}`);
	if (whole) fact('Requested', moment(e.req));
	if (e.acq >= 0) { fact('Acquired', moment(e.acq)); fact(e.kind === HOLD ? 'Released' : 'Last seen', moment(e.rel)); }
	if (e.kind !== HOLD) fact(e.kind === GAVE_UP ? 'Gave up' : e.kind === KILLED || e.kind === TOOK_OVER ? 'Found out' : 'Happened', moment(e.at));
	fact('Lock file', e.heals && `put back ${e.heals === 1 ? 'once' : e.heals + ' times'}`);
	fact('Token', e.token);
	return facts;
}

const tip = $('tip');
function tell(what, x, y) {
	if (!what) { tip.hidden = true; return; }
	const parts = [];
	let facts = [];
	if (what.e) {
		parts.push(make('strong', {}, labelOf(what.e)), make('p', { class: 'how' + (what.e.mark ? ' bad' : '') }, howOf(what.e)));
		facts = factsOf(what.e);
	} else if (what.many) {
		const sum = key => what.many.reduce((n, e) => n + e[key], 0);
		parts.push(make('strong', {}, `${labelOf(what.many[0])}: ${what.many.length} here`), make('p', { class: 'how' }, 'Zoom in to tell them apart.'));
		facts = [['Waited', duration(sum('waited')) + ' in all'], ['Held', duration(sum('held')) + ' in all'], ['About', moment(what.many[0].from)]];
	} else {
		const g = what.group;
		parts.push(make('strong', {}, g.name), make('p', { class: 'how' }, moment(tOf(left + what.pixel))));
		facts = [['In use', percent(Math.min(1, g.busy[what.pixel] || 0))], ['Waiting', (g.queue[what.pixel] || 0).toFixed(1) + ' on average']];
	}
	tip.replaceChildren(...parts, make('dl', {}, ...facts.flatMap(([k, v]) => [make('dt', {}, k), make('dd', {}, v)])));
	tip.classList.toggle('pinned', what.e && what.e === selected);
	tip.hidden = false;
	const w = tip.offsetWidth, h = tip.offsetHeight;
	tip.style.left = Math.max(8, x + 16 + w > innerWidth - 8 ? x - w - 16 : x + 16) + 'px';
	tip.style.top = Math.max(8, Math.min(y + 14, innerHeight - h - 8)) + 'px';
}

function select(e) {
	selected = e;
	hovered = null;
	tell(null);
	redraw();
}

// follow keeps the tooltip of what is selected beside that.
function follow() {
	const e = selected, box = canvas.getBoundingClientRect();
	if (e) tell({ e }, box.left + Math.min(Math.max(xOf(e.kind === HOLD ? e.start : e.at), left), width), box.top + e.row.y);
}

// step selects the next one in the view, or the one before.
function step(by) {
	const all = inView();
	if (!all.length) return;
	const at = selected ? all.indexOf(selected) : by < 0 ? 0 : -1;
	select(all[(at + by + all.length) % all.length]);
	const y = canvas.getBoundingClientRect().top + selected.row.y;
	if (y < 40 || y > innerHeight - 40) scrollBy(0, y - innerHeight / 2);
}

// Pointers and keys.

const pointers = new Map();
let pressed = null, pinch = 0;
const local = ev => { const box = canvas.getBoundingClientRect(); return [ev.clientX - box.left, ev.clientY - box.top]; };

canvas.addEventListener('pointerdown', ev => {
	if (ev.button) return;
	pointers.set(ev.pointerId, ev);
	canvas.setPointerCapture(ev.pointerId);
	pressed = { x: ev.clientX, from: view.from, to: view.to, moved: pointers.size > 1 };
	pinch = 0;
});
canvas.addEventListener('pointermove', ev => {
	if (!pointers.has(ev.pointerId)) {
		if (selected) return;
		const before = hovered?.e;
		hovered = find(...local(ev));
		tell(hovered, ev.clientX, ev.clientY);
		if (before !== hovered?.e) redraw();
		return;
	}
	pointers.set(ev.pointerId, ev);
	if (pointers.size === 2) {
		const [a, b] = [...pointers.values()], d = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
		if (pinch) zoom(pinch / Math.max(d, 1), tOf((local(a)[0] + local(b)[0]) / 2));
		pinch = d;
		pressed.moved = true;
		return;
	}
	const d = ev.clientX - pressed.x;
	if (!pressed.moved && Math.abs(d) < 4) return;
	pressed.moved = true;
	if (!selected) { hovered = null; tell(null); }
	const t = d / (width - left) * (pressed.to - pressed.from);
	look(pressed.from - t, pressed.to - t);
});
const up = ev => {
	if (!pointers.delete(ev.pointerId)) return;
	if (ev.type === 'pointerup' && !pressed.moved) {
		const what = find(...local(ev));
		select(what?.e === selected ? null : what?.e);
		if (what?.many) look(what.many[0].from - (view.to - view.from) / 40, what.many.at(-1).to + (view.to - view.from) / 40);
	}
	// The finger that stays goes on from where it is.
	for (const p of pointers.values()) pressed = { x: p.clientX, from: view.from, to: view.to, moved: true };
};
canvas.addEventListener('pointerup', up);
canvas.addEventListener('pointercancel', up);
canvas.addEventListener('pointerleave', () => { if (!selected && hovered) select(null); });
canvas.addEventListener('dblclick', () => { select(null); everything(); });
canvas.addEventListener('wheel', ev => {
	const sideways = ev.shiftKey || Math.abs(ev.deltaX) > Math.abs(ev.deltaY);
	if (!sideways && ev.deltaY > 0 && !zoomed()) return; // the page scrolls on
	ev.preventDefault();
	const unit = ev.deltaMode === 1 ? 16 : ev.deltaMode === 2 ? 200 : 1;
	if (sideways) move((ev.deltaX || ev.deltaY) * unit / (width - left));
	else zoom(Math.exp(Math.max(-200, Math.min(200, ev.deltaY * unit)) * 0.003), tOf(Math.max(left, local(ev)[0])));
}, { passive: false });

const keys = {
	'+': () => zoom(0.5), '=': () => zoom(0.5), '-': () => zoom(2), ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), 0: everything, Home: everything, n: () => step(1), p: () => step(-1), Escape: () => select(null),
	Enter: () => { const e = selected; if (e) { const d = Math.max(e.to - e.from, 20); look(e.from - d, e.to + d); } },
};
canvas.addEventListener('keydown', ev => {
	if (ev.ctrlKey || ev.altKey || ev.metaKey || !keys[ev.key]) return;
	ev.preventDefault();
	keys[ev.key]();
});
document.addEventListener('pointerdown', ev => { if (selected && !ev.target.closest('#timeline, #tip, button')) select(null); });
for (const [id, act] of Object.entries({ left: () => move(-0.4), right: () => move(0.4), in: () => zoom(0.5), out: () => zoom(2), all: everything })) $(id).addEventListener('click', act);

// The figures of what is shown. They are the page's own as long as that is everything.

function quantiles(values) {
	const all = Float64Array.from(values).sort();
	const at = p => all.length ? all[Math.ceil(p * all.length) - 1] : 0;
	return [at(0.5), at(0.9), at(0.99), at(1), all.reduce((a, b) => a + b, 0)];
}

function figures() {
	const f = { gaveUp: 0, lost: 0, forced: 0, killed: 0, failed: 0, late: 0 };
	const waits = [], held = [], begun = [], blame = new Map(), ends = data.databases.map(() => -Infinity);
	let busy = 0;
	for (const e of shown) {
		if ((e.kind === HOLD || e.kind === KILLED) && e.rel >= view.from && e.acq <= view.to) begun.push(e);
		if (e.at < view.from || e.at > view.to) continue;
		if (e.mark && e.kind !== LOST) f[e.mark]++;
		if (e.ended === 'lost') f.lost++;
		if (e.kind === HOLD || e.kind === KILLED) held.push(e.held);
		if (e.kind === HOLD) waits.push(e.waited);
		for (const b of e.blockers) {
			if (!b.ms) continue;
			let of = blame.get(b.process);
			if (!of) blame.set(b.process, of = { process: b.process, times: 0, total: 0, worst: -1 });
			of.times++;
			of.total += b.ms;
			if (b.ms > of.worst) Object.assign(of, { worst: b.ms, who: e });
		}
	}
	begun.sort((a, b) => a.acq - b.acq);
	for (const e of begun) {
		const from = Math.max(e.acq, ends[e.db], view.from), to = Math.min(e.rel, view.to);
		if (to > from) { busy += to - from; ends[e.db] = to; }
	}
	f.failed += f.late;
	const span = Math.min(view.to, last) - Math.max(view.from, 0);
	const dbs = Math.max(1, new Set(shown.map(e => e.db)).size);
	f.holds = held.length;
	const late = waits.filter(w => w), times = [quantiles(waits), quantiles(held)];
	for (const name of ['holds', 'gaveUp', 'lost', 'forced', 'killed', 'failed']) $('f-' + name).textContent = count(f[name]);
	$('f-share').textContent = percent(late.length / Math.max(waits.length, 1));
	$('f-busy').textContent = percent(span > 0 ? busy / span / dbs : 0);
	for (const tile of document.querySelectorAll('.tiles .bad')) tile.classList.toggle('some', tile.lastElementChild.textContent !== '0');
	$('scope').textContent = filtered || zoomed() ? 'of what the timeline shows' : 'of everything';
	[...$('quantiles').tBodies[0].rows].forEach((row, i) => times[i].forEach((v, k) => { row.cells[k + 1].textContent = duration(v); }));
	$('c-wait').textContent = `Waits of the ${count(late.length)} that had to wait, half of them up to ${duration(quantiles(late)[0])}.`;
	$('c-held').textContent = `Holds, half of them up to ${duration(times[1][0])}.`;
	histogram($('h-wait'), late, 'wait');
	histogram($('h-held'), held, 'held');
	const all = [...blame.values()].sort((a, b) => b.total - a.total || (a.process < b.process ? -1 : 1)), top = all.slice(0, 20);
	$('blame').tBodies[0].replaceChildren(...top.map(b => {
		const bar = make('svg', { viewBox: '0 0 100 8', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, make('rect', { width: 100 * b.total / Math.max(top[0].total, 1e-9), height: 8 }));
		const cells = [duration(b.total), bar, count(b.times), duration(b.worst), labelOf(b.who), short(b.who.at)];
		return make('tr', {}, make('th', { scope: 'row', title: labelOf(b) }, labelOf(b)), ...cells.map(c => make('td', c === bar ? { class: 'share' } : {}, c)));
	}));
	if (!top.length) $('blame').tBodies[0].append(make('tr', {}, make('td', { colspan: 7 }, 'Nobody waited for anybody.')));
	$('others').hidden = all.length <= 20;
	$('others').textContent = `${all.length - 20} more are not shown.`;
}

// histogram has columns of one width for 1, 2, 5, 10 and so on.
const BOUNDS = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 6e4, 12e4, 3e5, 6e5, 12e5, 36e5, 72e5, 18e6, 36e6, 72e6, Infinity];
const NAMED = { 1: '1 ms', 10: '10', 100: '100 ms', 1e3: '1 s', 1e4: '10 s', 6e4: '1 min', 6e5: '10 min', 36e5: '1 h', 36e6: '10 h' };
function histogram(box, values, kind) {
	const bins = BOUNDS.slice(1).map((b, i) => values.filter(v => v >= BOUNDS[i] && v < b).length);
	const used = [...bins.keys()].filter(i => bins[i]), begin = Math.min(1, ...used), end = Math.max(12, ...used) + 1;
	const W = Math.max(box.clientWidth, 200), H = 190, bottom = H - 22, most = Math.max(...bins, 1), w = W / (end - begin);
	const svg = make('svg', { viewBox: `0 0 ${W} ${H}`, role: 'img', 'aria-labelledby': 'c-' + kind });
	for (let i = begin; i < end; i++) {
		const x = (i - begin) * w, h = bins[i] && Math.max(1.5, bins[i] / most * (bottom - 18));
		const range = BOUNDS[i + 1] < Infinity ? `${duration(BOUNDS[i])} to ${duration(BOUNDS[i + 1])}` : `${duration(BOUNDS[i])} and more`;
		svg.append(make('rect', { x: x + 1, y: bottom - h, width: w - 2, height: h, class: kind }, make('title', {}, `${range}: ${count(bins[i])}`)));
		if (bins[i] && w > 24) svg.append(make('text', { x: x + w / 2, y: bottom - h - 5, 'text-anchor': 'middle' }, count(bins[i])));
		if (NAMED[BOUNDS[i]]) svg.append(make('line', { x1: x, x2: x, y1: bottom, y2: bottom + 5, class: 'axis' }), make('text', { x, y: H - 4, 'text-anchor': x ? 'middle' : 'start' }, NAMED[BOUNDS[i]]));
	}
	svg.append(make('line', { x1: 0, x2: W, y1: bottom + 0.5, y2: bottom + 0.5, class: 'axis' }));
	box.replaceChildren(svg);
}

// All is drawn once in a frame; the figures follow when nothing has changed for a moment.

let frame = 0, later = 0;
function redraw() { frame ||= requestAnimationFrame(() => { frame = 0; draw(); follow(); }); }
function changed() {
	redraw();
	clearTimeout(later);
	document.body.ariaBusy = 'true';
	later = setTimeout(() => { figures(); document.body.ariaBusy = 'false'; }, 120);
}

function showTimes() {
	for (const el of document.querySelectorAll('time[data-ms]')) {
		const ms = el.dataset.ms - data.base;
		el.textContent = 'short' in el.dataset ? short(ms) : `${format(ms, { ...day, year: 'numeric' })}, ${format(ms, seconds)} ${zoneName()}`;
	}
	$('zone').textContent = utc ? 'Times: UTC' : 'Times: local';
}

const THEMES = ['auto', 'light', 'dark'];
let theme = 0;
function dress() {
	root.className = 'js ' + THEMES[theme];
	$('theme').textContent = 'Theme: ' + THEMES[theme];
	readColors();
	redraw();
}
$('theme').addEventListener('click', () => { theme = (theme + 1) % 3; dress(); });
$('zone').addEventListener('click', () => { utc = !utc; showTimes(); select(null); figures(); });
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', dress);
addEventListener('beforeprint', () => { readColors(); draw(); });
addEventListener('afterprint', dress);
new ResizeObserver(changed).observe($('stage'));
addEventListener('scroll', () => { if (selected || hovered) select(selected); }, { passive: true });

$('filter').addEventListener('input', filter);
$('filter').addEventListener('submit', ev => ev.preventDefault());
$('filter').addEventListener('reset', () => { changed(); setTimeout(filter); });

dress();
showTimes();
filter();
})();
