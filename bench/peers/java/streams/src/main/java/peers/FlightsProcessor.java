package peers;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;

import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.internals.InternalProcessorContext;
import org.apache.kafka.streams.processor.internals.ProcessorNode;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * Scores flights in batches. Windows are objects here, and bytes in the store (and its changelog) before
 * each commit: a store takes bytes, and a window's with each row would cost more than all the rest.
 */
final class FlightsProcessor implements Processor<byte[], byte[], byte[], byte[]> {
  static final String WINDOWS = "windows";

  private final Settings settings;
  private final Row row = new Row();
  private final Prediction prediction = new Prediction();
  private final Map<String, Window> windows = new HashMap<>();
  private Features features;
  private Scorer scorer;
  private KeyValueStore<String, byte[]> store;
  private ProcessorContext<byte[], byte[]> context;
  private ProcessorNode<?, ?, ?, ?> node;

  FlightsProcessor(Settings settings) {
    this.settings = settings;
  }

  @Override
  public void init(ProcessorContext<byte[], byte[]> context) {
    this.context = context;
    node = ((InternalProcessorContext<?, ?>) context).currentNode();
    features = new Features(Path.of(settings.text("tables")), Path.of(settings.text("destinations")));
    scorer = new Scorer(settings.text("model"), settings.number("batch"));
    store = context.getStateStore(WINDOWS);
    try (var stored = store.all()) {
      stored.forEachRemaining(entry -> windows.put(entry.key, Window.fromBytes(entry.value)));
    }
    context.<BeforeCommit>getStateStore(BeforeCommit.NAME).run(this::beforeCommit);
    Duration timeout = Duration.ofMillis(settings.number("batch_timeout_ms"));
    context.schedule(timeout, PunctuationType.WALL_CLOCK_TIME, now -> flush());
  }

  @Override
  public void process(Record<byte[], byte[]> message) {
    try {
      row.read(message.value());
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
    features.fill(row);
    Window window = windows.computeIfAbsent(row.carrier, carrier -> new Window());
    row.features[Features.CARRIER_DELAY] = window.add(row.time, row.delay);
    if (scorer.add(row)) flush();
  }

  private void flush() {
    scorer.flush((row, id, key, time, score) -> {
      prediction.set(id, key, time, score);
      context.forward(new Record<>(prediction.key(), prediction.value(), time));
    });
  }

  /** Called outside of any node, where nothing could be forwarded. */
  private void beforeCommit() {
    var internal = (InternalProcessorContext<?, ?>) context;
    ProcessorNode<?, ?, ?, ?> current = internal.currentNode();
    internal.setCurrentNode(node);
    try {
      flush();
      windows.forEach((carrier, window) -> store.put(carrier, window.toBytes()));
    } finally {
      internal.setCurrentNode(current);
    }
  }

  @Override
  public void close() {
    scorer.close();
  }
}
