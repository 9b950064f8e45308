//! A real browser: Chromium without a window, driven through `chromedriver` (W3C WebDriver).

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::raw::Client;
use super::wait::{PATIENCE, until};

/// A browser with an empty profile. Every host name leads to this machine, and certificates are not
/// verified.
pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _profile: tempfile::TempDir,
}

/// Most starts of chromedriver for one browser. Chromedriver chooses a port that is free over IPv4, and ends if the same port is taken
/// over IPv6.
const STARTS: usize = 10;

/// Starts chromedriver and answers its port; `None` when it has ended.
fn start_driver() -> Option<(Child, u16)> {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromedriver is installed; scripts/test does that");
    let port = BufReader::new(driver.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| {
            let (_, port) = line.split_once("successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
    if port.is_none() {
        let _ = driver.wait();
    }
    Some((driver, port?))
}

impl Browser {
    /// Starts one. Needs the programs `chromium` and `chromedriver`.
    pub(crate) fn start() -> Self {
        Self::start_with("MAP * 127.0.0.1")
    }

    /// Starts one that finds hosts by these rules (`MAP api.example.com 127.0.0.1:8443, …`).
    pub(crate) fn start_with(rules: &str) -> Self {
        let (driver, port) = (0..STARTS).find_map(|_| start_driver()).expect("chromedriver tells its port");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Self {
            driver,
            address,
            session: String::new(),
            _profile: profile,
        };
        let hosts = format!("--host-resolver-rules={rules}");
        let profile = format!("--user-data-dir={}", browser._profile.path().display());
        // Without these it looks for its maker's servers, and as root for a sandbox it cannot have.
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &hosts,
            &profile,
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": arguments },
        }}});
        let begun = browser.ask("POST", "/session", &wanted);
        begun["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        browser
    }

    /// Goes to a page, as if its address had been typed.
    pub(crate) fn go(&self, url: &str) {
        self.command("POST", "url", &json!({ "url": url }));
    }

    /// Runs a script in the page; it calls the last of its `arguments` with its result.
    pub(crate) fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.command("POST", "execute/async", &json!({ "script": script, "args": arguments }))
    }

    /// Where it is.
    pub(crate) fn location(&self) -> String {
        let url = self.command("GET", "url", &Value::Null);
        url.as_str().expect("a URL").to_owned()
    }

    /// The text of the page.
    pub(crate) fn text(&self) -> String {
        // Not by `run`: a page that is left before its script ends would be waited for.
        let script = json!({ "script": "return document.documentElement.innerText", "args": [] });
        let text = self.command("POST", "execute/sync", &script);
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Whether the page has an element of this CSS selector.
    pub(crate) fn has(&self, selector: &str) -> bool {
        !self.elements(selector).is_empty()
    }

    /// Types into the fields of a form by their names, and presses its first button.
    pub(crate) fn submit(&self, fields: &[(&str, &str)]) {
        for (name, value) in fields {
            let field = self.element(&format!("[name='{name}']"));
            self.command("POST", &format!("element/{field}/clear"), &json!({}));
            self.command("POST", &format!("element/{field}/value"), &json!({ "text": value }));
        }
        let button = self.element("button[type=submit], form button");
        self.command("POST", &format!("element/{button}/click"), &json!({}));
    }

    /// The first element of this CSS selector. It is waited for, since a form or a page may still be on its way.
    fn element(&self, selector: &str) -> String {
        until(selector, PATIENCE, || {
            let element = self.elements(selector).into_iter().next()?;
            let id = element.as_object().and_then(|members| members.values().next());
            Some(id.and_then(Value::as_str).expect("an element").to_owned())
        })
    }

    fn elements(&self, selector: &str) -> Vec<Value> {
        let found = self.command("POST", "elements", &json!({ "using": "css selector", "value": selector }));
        found.as_array().cloned().unwrap_or_default()
    }

    /// The cookies that the page's own requests carry, those included that it cannot read itself.
    pub(crate) fn cookies(&self) -> Vec<Value> {
        let cookies = self.command("GET", "cookie", &Value::Null);
        cookies.as_array().expect("a list of cookies").clone()
    }

    fn command(&self, method: &str, what: &str, body: &Value) -> Value {
        self.ask(method, &format!("/session/{}/{what}", self.session), body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        let mut client = Client::connect(self.address);
        client.set_patience(2 * PATIENCE);
        client.send(format!("{head}{body}").as_bytes());
        let answer = client.final_response_to(method).expect("an answer of chromedriver");
        let value = answer.json()["value"].clone();
        assert_eq!(answer.status, 200, "{method} {path}: {value}");
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser too; a test that failed must not fail twice.
        let mut client = Client::connect(self.address);
        let request = format!("DELETE /session/{} HTTP/1.1\r\nHost: {}\r\n\r\n", self.session, self.address);
        if client.try_send(request.as_bytes()).is_ok() {
            let _ = client.final_response_to("DELETE");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
