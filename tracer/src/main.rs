//! x
use tracer::{*, observation::*, output::{*, json::Json}};
struct Out { json: Json, n: u64, buf: Vec<u8> }
impl Sink for Out {
    fn observe(&mut self, o: &Observation<'_>) { self.n+=1; self.json.line(o, self.n, &mut self.buf); }
    fn flush(&mut self) { use std::io::Write; std::io::stdout().write_all(&self.buf).unwrap(); self.buf.clear(); }
}
#[tokio::main(flavor="current_thread")]
async fn main() {
    if kernel::canary::is_canary() { return }
    let mode = std::env::args().nth(1);
    let mode = tracer::kernel::hooks::HookMode::ALL.into_iter().find(|m| Some(m.name()) == mode.as_deref());
    let options = kernel::loader::Options{mode, ring_bytes: 8<<20, degraded:false, log_level:0};
    let mut s = match session::Session::start(&options, state::Limits::default(), |hooks| pipeline::Sinks(vec![Box::new(Out{json: Json::new(Context{host: host::Host::read(), offset: clock::WallOffset::measure(), hooks, users: users::Users::of_host()}), n:0, buf:vec![]})])) { Ok(s) => s, Err(e) => { eprintln!("tracer: {e}"); std::process::exit(3) } };
    for c in &s.choices { eprintln!("{}: {}", c.moment.name(), session::describe(c)); }
    eprintln!("{:?}", s.remarks);
    eprintln!("ready {:?} {:?}", s.attach_took, s.start_took);
    let t = tokio::time::sleep(std::time::Duration::from_secs(3)); tokio::pin!(t);
    loop { tokio::select!{ r = s.pipeline.turn() => r.unwrap(), _ = &mut t => break } }
    drop(s.programs);
    s.pipeline.finish().unwrap();
}
