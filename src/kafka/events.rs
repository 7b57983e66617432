//! The queue on which a client puts the messages of a partition.

use std::ffi::{CString, c_void};
use std::ptr;

use driftline_operators::wake::Wake;
use rdkafka::ClientContext;
use rdkafka::bindings as sys;
use rdkafka::client::Client;

/// A queue of librdkafka. It must not outlive its client.
pub struct EventQueue {
    queue: *mut sys::rd_kafka_queue_t,
    /// What is called when there is something, for as long as the queue has it.
    wake: Option<Box<Wake>>,
}

// SAFETY: librdkafka's queues may be used from any thread, and so may a wake.
unsafe impl Send for EventQueue {}
// SAFETY: as above; nothing changes behind a shared reference.
unsafe impl Sync for EventQueue {}

impl EventQueue {
    /// The queue of a partition that the client will be assigned: its messages come here and nowhere
    /// else.
    pub fn of_partition<C: ClientContext>(
        client: &Client<C>,
        topic: &str,
        partition: i32,
    ) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        // SAFETY: the client is alive; the name is copied.
        let queue = unsafe {
            let native = client.native_ptr();
            let queue = sys::rd_kafka_queue_get_partition(native, topic.as_ptr(), partition);
            if queue.is_null() {
                return None;
            }
            sys::rd_kafka_queue_forward(queue, ptr::null_mut());
            queue
        };
        Some(EventQueue { queue, wake: None })
    }

    /// `wake` is called when there is something in the queue, from any thread.
    pub fn wake_with(&mut self, wake: Wake) {
        unsafe extern "C" fn call(_client: *mut sys::rd_kafka_t, wake: *mut c_void) {
            // SAFETY: it is the box below, which is kept until the queue has no callback any more.
            let wake = unsafe { &*wake.cast::<Wake>() };
            wake();
        }
        self.without_wake();
        let wake = Box::new(wake);
        let opaque = ptr::from_ref::<Wake>(&wake).cast_mut().cast::<c_void>();
        // SAFETY: the queue is alive, and so is what the box holds, wherever the box is moved.
        unsafe { sys::rd_kafka_queue_cb_event_enable(self.queue, Some(call), opaque) };
        self.wake = Some(wake);
    }

    fn without_wake(&mut self) {
        // SAFETY: the queue is alive. Afterwards nothing calls what is dropped next.
        unsafe { sys::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut()) };
        self.wake = None;
    }

    pub fn as_ptr(&self) -> *mut sys::rd_kafka_queue_t {
        self.queue
    }
}

impl Drop for EventQueue {
    fn drop(&mut self) {
        self.without_wake();
        // SAFETY: it is ours, and nobody uses it afterwards.
        unsafe { sys::rd_kafka_queue_destroy(self.queue) };
    }
}
