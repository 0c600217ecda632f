//! x
fn main() {
    let mode = std::env::args().nth(1);
    let mode = tracer::kernel::hooks::HookMode::ALL.into_iter().find(|m| Some(m.name()) == mode.as_deref());
    let r = tracer::kernel::loader::attach(&tracer::kernel::loader::Options{mode, ring_bytes: 8<<20, degraded:false, log_level:0});
    match r { Err(e) => println!("{e}"), Ok(mut a) => {
        println!("took {:?}", a.took);
        for c in &a.choices { println!("{:?}", c); }
        let end = std::time::Instant::now() + std::time::Duration::from_secs(3);
        while std::time::Instant::now() < end {
            while let Some(i) = a.ring.next() { println!("{} {}", u16::from_ne_bytes([i[0],i[1]]), i.len()); }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    } }
}
