//! The sizes of what each request has: what grows is made, copied and cleared for all of them, also for those that have no use for it.

use super::*;
use crate::upstream::UpstreamRequest;

fn size_of_future<F>(_: impl FnOnce() -> F) -> usize {
    size_of::<F>()
}

fn unmade<T>() -> T {
    unreachable!("only sizes are asked for")
}

/// The limits are a little above the sizes of the day they were set; a change that needs more says why, or puts what is rare into a box.
#[test]
fn what_each_request_has_stays_small() {
    let serve = size_of_future(|| {
        let (plane, connection): (&'static DataPlane, &'static Arc<Connection>) = (unmade(), unmade());
        plane.serve(unmade(), connection, None)
    });
    let forward = size_of_future(|| {
        let (exchange, incoming): (&'static mut Exchange, &'static mut IncomingRequest) = (unmade(), unmade());
        forward(exchange, incoming, unmade::<&'static Snapshot>(), unmade::<&'static mut Received>())
    });
    for (name, size, limit) in [
        ("the future of a request", serve, 3_400),
        ("the future of its way to the upstream", forward, 3_016),
        ("its facts with the record", size_of::<Recorder>(), 1_344),
        ("its head", size_of::<IncomingRequest>(), 288),
        ("the request to the upstream", size_of::<UpstreamRequest>(), 144),
        ("a response", size_of::<Response<ResponseBody>>(), 128),
        ("a response of the upstream", size_of::<Response<crate::upstream::ResponseBody>>(), 128),
    ] {
        assert!(size <= limit, "{name} has {size} bytes, more than {limit}");
    }
}
