// What a person sees of the live demo on a phone. tests/demo/live/test_run.py runs it; `page`, `args` and `done` come from the frame.
await page.setViewportSize({ width: 360, height: 740 });
const errors = [], long = { timeout: args.patience * 1000 };
page.on("pageerror", (error) => errors.push(String(error)));
// When the demo has ended, nobody answers any more; the browser says so too.
page.on("console", (line) => { if (line.type() === "error" && !line.text().includes("ERR_")) errors.push(line.text()); });
await page.goto(args.url);
const schemes = {};
for (const colorScheme of ["light", "dark"]) {
  await page.emulateMedia({ colorScheme });
  schemes[colorScheme] = await page.evaluate(() => {
    const level = (text) => {
      const [r, g, b] = text.match(/[0-9.]+/g).map((one) => one / 255).map((one) => one <= .04045 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4);
      return .2126 * r + .7152 * g + .0722 * b;
    };
    const behind = (e) => { const c = getComputedStyle(e).backgroundColor; return c === "rgba(0, 0, 0, 0)" ? behind(e.parentElement) : c; };
    const ratios = [...document.querySelectorAll("h1, h2, p, dt, dd, li, button:enabled")].map((e) => {
      const [low, high] = [level(getComputedStyle(e).color), level(behind(e))].sort((a, b) => a - b);
      return (high + .05) / (low + .05);
    });
    return { paper: getComputedStyle(document.body).backgroundColor, least: Math.min(...ratios) };
  });
}
const text = async (id) => (await page.locator("#" + id).textContent()).trim();
// Or the demo has ended; then what is missing stands in the values that the test reads.
await page.waitForFunction(() => document.getElementById("state").textContent.startsWith("The demo has ended")
  || (["teacher", "live", "control", "popularity"].every((name) => document.getElementById("line-" + name))
  && document.querySelectorAll("#versions li[data-passed=true]").length >= 2), undefined, long);
const hops = await (await page.waitForFunction(() => {
  const found = Object.fromEntries([...document.querySelectorAll("#hops dd")].map((e) => [e.id.slice("hops-".length), e.textContent]));
  return (document.getElementById("state").textContent.startsWith("The demo has ended") || !Object.values(found).includes("–")) && Object.keys(found).length && found;
}, undefined, long)).jsonValue();
for (const act of ["kill", "worse", "back"]) {
  await page.focus("button[data-act=" + act + "]");
  await page.keyboard.press("Enter");  // no mouse is needed
}
await page.waitForFunction(() => document.getElementById("state").textContent.startsWith("The demo has ended"), undefined, long);
const now = {};
for (const one of ["lists", "requests", "failures", "rate", "p50", "p99"]) now[one] = await text("now-" + one);
const seen = {
  hops, now, schemes,
  facts: await page.evaluate(() => Object.fromEntries([...document.querySelectorAll("#facts li")].map((e) => [e.dataset.fact, [e.dataset.holds, e.textContent]]))),
  cost: { teacher: await text("cost-teacher"), student: await text("cost-student"), ratio: await text("cost-ratio"), p99: await text("cost-p99") },
  acts: await page.locator("#acts li").allTextContents(),
  versions: await page.locator("#versions li").allTextContents(),
  lines: await page.evaluate(() => [...document.querySelectorAll("#picture polyline")].map((e) => e.id)),
  values: { live: await text("value-live"), popularity: await text("value-popularity"), teacher: await text("value-teacher") },
  overflow: await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth),
};
// The page has loaded the device file by itself. Now there is no demo and no network.
await page.waitForFunction(() => !document.getElementById("device-ask").disabled, undefined, long);
await page.context().setOffline(true);
await page.focus("#device-ask");
await page.keyboard.press("Enter");
await page.waitForFunction(() => document.querySelectorAll("#device-answer li").length > 0, undefined, long);
done({ ...seen, errors, device: await text("device-state"), answer: await page.locator("#device-answer li").allTextContents() });
