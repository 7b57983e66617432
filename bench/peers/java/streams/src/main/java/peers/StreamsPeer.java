package peers;

import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;

import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.state.Stores;

/**
 * The flights in Kafka Streams: one processor parses, looks up, keeps a window by carrier and scores in
 * batches. It runs until it is told to stop.
 */
public final class StreamsPeer {
  private static final Duration STOP_TIMEOUT = Duration.ofSeconds(20);

  private static Map<String, String> settings() {
    Map<String, String> known = new HashMap<>();
    for (String needed : new String[] {"broker", "input", "output", "tables", "destinations", "model", "state"}) {
      known.put(needed, null);
    }
    known.put("batch", "256");            // rows of a model run at most
    known.put("batch_timeout_ms", "100"); // no row waits longer for others to join it
    known.put("commit_ms", "1000");       // offsets and windows are committed so often, at least once
    return known;
  }

  public static void main(String[] arguments) throws Exception {
    Settings settings = new Settings(arguments, settings());
    KafkaStreams streams = new KafkaStreams(topology(settings), configuration(settings));
    CountDownLatch ended = new CountDownLatch(1);
    streams.setUncaughtExceptionHandler(error -> {
      error.printStackTrace();
      ended.countDown();
      return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
    });
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(STOP_TIMEOUT)));
    streams.start();
    ended.await();
    System.exit(1);
  }

  private static Topology topology(Settings settings) {
    var windows = Stores.keyValueStoreBuilder(
        Stores.inMemoryKeyValueStore(FlightsProcessor.WINDOWS), Serdes.String(), Serdes.ByteArray());
    return new Topology()
        .addSource("events", new ByteArrayDeserializer(), new ByteArrayDeserializer(), settings.text("input"))
        .addProcessor("flights", () -> new FlightsProcessor(settings), "events")
        .addStateStore(windows.withLoggingEnabled(Map.of()), "flights")
        .addStateStore(BeforeCommit.builder(), "flights")
        .addSink("scores", settings.text("output"), new ByteArraySerializer(), new ByteArraySerializer(), "flights");
  }

  private static Properties configuration(Settings settings) {
    Properties properties = new Properties();
    properties.put(StreamsConfig.APPLICATION_ID_CONFIG, "streams-peer-" + ProcessHandle.current().pid());
    properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, settings.text("broker"));
    properties.put(StreamsConfig.STATE_DIR_CONFIG, settings.text("state"));
    properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    properties.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE);
    properties.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, settings.number("commit_ms"));
    properties.put(StreamsConfig.mainConsumerPrefix("auto.offset.reset"), "earliest");
    properties.put(StreamsConfig.producerPrefix("compression.type"), "lz4");
    properties.put(StreamsConfig.producerPrefix("linger.ms"), 5);
    properties.put(StreamsConfig.producerPrefix("batch.size"), 131_072);
    return properties;
  }
}
