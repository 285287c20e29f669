// Looks at pages of histories as somebody does who has a browser, and ends with 1 and a line
// for each thing that is not as it should be.
//
// usage: node look.mjs CHROMIUM NIGHT BUSY EVIL [PICTURES]
//
// The first three are pages: of a night, of thousands of holds, of texts that want to be markup. With a
// directory for pictures it only takes those.

import { chromium } from 'playwright-core';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';

const [executablePath, night, busy, evil, pictures] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: process.getuid() === 0 ? ['--no-sandbox'] : [] });
const problems = [];
const check = (ok, what) => { if (!ok) problems.push(what); };

async function open(file, { width = 1280, height = 900, ...rest } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, timezoneId: 'Europe/Berlin', ...rest });
  const page = await context.newPage();
  page.on('console', m => problems.push(`console: ${m.text()}`));
  page.on('pageerror', e => problems.push(`error: ${e.message}`));
  page.on('dialog', d => { problems.push('a script of a stranger ran'); d.dismiss(); });
  page.on('request', r => check(r.url() === pathToFileURL(file).href || r.url().startsWith('data:'), `request: ${r.url()}`));
  await page.goto(pathToFileURL(file).href);
  if (rest.javaScriptEnabled !== false) await settled(page);
  return page;
}

// settled waits until what changed is drawn and counted.
async function settled(page) {
  await page.waitForFunction(() => document.body.ariaBusy !== 'true');
  await page.evaluate(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))));
}
const text = (page, selector) => page.locator(selector).textContent();
const spanOf = async page => (await text(page, '#range')).replace(/.*, /, '');
const pixels = page => page.locator('#timeline').evaluate(c => c.toDataURL());

async function pictured() {
  for (const [name, width, height, colorScheme] of [['history-1280', 1280, 900, 'light'], ['history-1280-dark', 1280, 900, 'dark'], ['history-400-light', 400, 900, 'light'], ['history-400', 400, 900, 'dark']]) {
    const page = await open(night, { width, height, colorScheme });
    // As far as the timeline goes.
    const box = await page.locator('section:has(#timeline)').boundingBox();
    await page.screenshot({ path: join(pictures, name + '.png'), fullPage: true, clip: { x: 0, y: 0, width, height: Math.ceil(box.y + box.height + 12) } });
    await page.context().close();
  }
}

async function zooms() {
  const page = await open(night);
  const canvas = page.locator('#timeline'), box = await canvas.boundingBox();
  const whole = await spanOf(page), holds = await text(page, '#f-holds');
  check(whole.startsWith('8 h'), `the whole night is ${whole}`);
  const changes = async (what, act, zoomed = true) => {
    const before = await text(page, '#range'), image = await pixels(page);
    await act();
    await settled(page);
    check(before !== await text(page, '#range'), `${what}: nothing changed`);
    check(image !== await pixels(page), `${what}: nothing was drawn`);
    check((await spanOf(page) !== whole) === zoomed, `${what}: shows ${await spanOf(page)}`);
  };
  await page.mouse.move(box.x + box.width / 2, box.y + 150);
  await changes('wheel', () => page.mouse.wheel(0, -300));
  check(await text(page, '#f-holds') !== holds, 'the figures are those of the view');
  check((await text(page, '#scope')).includes('timeline shows'), 'and say so');
  await changes('drag', async () => {
    await page.mouse.down();
    await page.mouse.move(box.x + box.width / 2 + 200, box.y + 150, { steps: 4 });
    await page.mouse.up();
  });
  await changes('double click', () => canvas.dblclick({ position: { x: 400, y: 5 } }), false);
  check(await text(page, '#f-holds') === holds, 'all figures are back');
  await canvas.focus();
  await changes('+', () => page.keyboard.press('+'));
  await changes('right', () => page.keyboard.press('ArrowRight'));
  await changes('left', () => page.keyboard.press('ArrowLeft'));
  await changes('-', () => page.keyboard.press('-'), false);
  await page.keyboard.press('+');
  await settled(page);
  await changes('0', () => page.keyboard.press('0'), false);
  await changes('button', () => page.click('#in'));
  await changes('button for all', () => page.click('#all'), false);
  // All the way in, and no further.
  await canvas.focus();
  for (let i = 0; i < 40; i++) await page.keyboard.press('+');
  await settled(page);
  check(await spanOf(page) === '5.0 ms', `the least is ${await spanOf(page)}`);
  await page.context().close();
}

async function filters() {
  const page = await open(night);
  const holds = async () => Number((await text(page, '#f-holds')).replace(/,/g, ''));
  const all = await holds();
  const narrows = async (what, act) => {
    await act();
    await settled(page);
    const n = await holds();
    check(n > 0 && n < all, `${what}: ${n} of ${all} holds`);
    await page.click('#filter [type=reset]');
    await settled(page);
    check(await holds() === all, `${what}: cleared`);
  };
  await narrows('label', () => page.selectOption('#label', 'migrate'));
  await narrows('command', () => page.selectOption('#command', 'psql'));
  await narrows('user', () => page.selectOption('#user', { index: 2 }));
  await narrows('text', () => page.fill('#text', 'backfill'));
  await narrows('waited', () => page.check('#waited'));
  await narrows('wrong', () => page.check('#wrong'));
  await page.fill('#text', 'nobody is called so');
  await settled(page);
  check(await page.locator('#empty').isVisible(), 'an empty timeline says so');
  check((await text(page, '#blame tbody')).includes('Nobody'), 'and an empty table');
  await page.context().close();
}

async function tells() {
  const page = await open(night);
  const canvas = page.locator('#timeline'), tip = page.locator('#tip');
  await page.selectOption('#label', 'etl');
  await page.fill('#text', 'second');
  await settled(page);
  await canvas.focus();
  await page.keyboard.press('n'); // the hold, and then the force
  await settled(page);
  let said = await tip.innerText();
  for (const fact of ['etl', 'python3', 'second attempt', 'db-1', 'exclusive', 'Kept waiting', 'Acquired', 'Released', 'Token', 'signal 15']) check(said.includes(fact), `tooltip has no ${fact}: ${said}`);
  await page.keyboard.press('n');
  await settled(page);
  said = await tip.innerText();
  check(said.includes('Ended by force by operator') && said.includes('user'), `the force: ${said}`);
  await page.keyboard.press('Enter');
  await page.keyboard.press('Escape');
  await settled(page);
  check(await tip.isHidden(), 'Escape ends the selection');
  await page.click('#filter [type=reset]');
  await page.selectOption('#label', 'nightly-backup');
  await page.click('#all');
  await settled(page);
  // Its bar is in the only lane.
  const box = await canvas.boundingBox();
  let found = false;
  for (let x = 200; x < box.width && !found; x += 8) {
    await page.mouse.move(box.x + x, box.y + 112);
    found = await tip.isVisible() && (await tip.innerText()).includes('pg_dump');
  }
  check(found, 'the pointer finds the backup');
  said = await tip.innerText();
  for (const fact of ['shared', 'to s3, weekly full', 'Held']) check(said.includes(fact), `tooltip has no ${fact}: ${said}`);
  const inside = await tip.evaluate(el => { const b = el.getBoundingClientRect(); return b.left >= 0 && b.right <= innerWidth && b.top >= 0 && b.bottom <= innerHeight; });
  check(inside, 'the tooltip is on the screen');
  // Lines: with something selected the picture differs.
  await page.click('#filter [type=reset]');
  await settled(page);
  const before = await pixels(page);
  await canvas.focus();
  await page.keyboard.press('p');
  await settled(page);
  check(before !== await pixels(page), 'what is selected is marked');
  await page.context().close();
}

async function dresses() {
  const page = await open(night);
  const begin = await text(page, '#span');
  check(begin.includes('23:01') && begin.includes('CET'), `local times: ${begin}`);
  await page.click('#zone');
  await settled(page);
  const there = await text(page, '#span');
  check(there.includes('22:01') && there.includes('UTC'), `UTC: ${there}`);
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await paper(), drawn = await pixels(page);
  await page.click('#theme');
  check(await paper() === light, 'light stays light');
  await page.click('#theme');
  await settled(page);
  check(await paper() !== light, 'dark');
  check(await pixels(page) !== drawn, 'the timeline, too');
  await page.emulateMedia({ media: 'print' });
  check(await page.locator('#filter').isHidden(), 'what cannot be used on paper is not printed');
  check(await page.evaluate(() => getComputedStyle(document.body).backgroundColor) === 'rgb(255, 255, 255)', 'paper is white');
  await page.context().close();
}

async function fitsSmallScreens() {
  const page = await open(night, { width: 400, height: 800, hasTouch: true });
  check(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is wider than a small screen');
  const whole = await spanOf(page), box = await page.locator('#timeline').boundingBox();
  await page.locator('#timeline').evaluate((c, [x, y]) => {
    const send = (type, id, x) => c.dispatchEvent(new PointerEvent(type, { pointerId: id, clientX: x, clientY: y, bubbles: true, pointerType: 'touch', isPrimary: id === 1 }));
    c.setPointerCapture = () => {};
    send('pointerdown', 1, x - 20);
    send('pointerdown', 2, x + 20);
    for (let d = 20; d <= 120; d += 20) { send('pointermove', 1, x - d); send('pointermove', 2, x + d); }
    send('pointerup', 1, x - 120);
    send('pointerup', 2, x + 120);
  }, [box.x + box.width / 2, box.y + 100]);
  await settled(page);
  check(await spanOf(page) !== whole, 'a pinch zooms');
  await page.context().close();
}

// How quick it is is said, and no more: others may keep the machine busy.
async function drawsMany() {
  const began = Date.now();
  const page = await open(busy);
  const opened = Date.now() - began;
  const took = await page.evaluate(async () => {
    const canvas = document.getElementById('timeline');
    const frame = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const times = [];
    for (let i = 0; i < 8; i++) {
      const t = performance.now();
      canvas.dispatchEvent(new KeyboardEvent('keydown', { key: i < 4 ? '+' : 'ArrowLeft' }));
      await frame();
      times.push(performance.now() - t);
    }
    return times.sort((a, b) => a - b);
  });
  console.log(`many holds: opened in ${opened} ms, 8 changes drawn after ${took[0].toFixed(0)} to ${took[7].toFixed(0)} ms`);
  await page.context().close();
}

async function isSafe() {
  const page = await open(evil);
  await page.locator('#timeline').focus();
  for (let i = 0; i < 12; i++) {
    await page.keyboard.press('n');
    await settled(page);
  }
  check(await page.locator('img, iframe, body svg[onload], [onerror]').count() === 0, 'a text became markup');
  check((await text(page, '#label')).includes('</script><script>alert(1)</script>'), 'a label is shown as it is');
  await page.evaluate(() => { const s = document.createElement('script'); s.textContent = 'document.title = "ran"'; document.body.append(s); });
  check(await page.title() !== 'ran', 'the policy lets other scripts run');
  const refused = problems.findIndex(p => p.includes('Content Security Policy'));
  check(refused >= 0, 'the policy says nothing');
  problems.splice(refused, refused < 0 ? 0 : 1);
  await page.context().close();
}

async function readsWithoutScript() {
  const page = await open(night, { javaScriptEnabled: false });
  check((await text(page, '#f-holds')).length > 0 && await page.locator('#blame tbody tr').count() > 5, 'figures without a script');
  check(await page.locator('#filter').isHidden() && await page.locator('#timeline').isHidden(), 'nothing that needs one');
  const figures = async page => [...await page.locator('.tiles dd, #quantiles td').allTextContents(), ...await page.locator('#blame td:nth-child(2)').allTextContents(), ...await page.locator('#blame td:nth-child(5)').allTextContents()].join();
  const without = await figures(page);
  const scripted = await open(night);
  check(without === await figures(scripted), `the script counts otherwise:\n${without}\n${await figures(scripted)}`);
  await page.context().close();
  await scripted.context().close();
}

try {
  for (const part of pictures ? [pictured] : [zooms, filters, tells, dresses, fitsSmallScreens, drawsMany, isSafe, readsWithoutScript]) await part();
} finally {
  await browser.close();
}
for (const p of problems) console.log(p);
process.exitCode = problems.length ? 1 : 0;
