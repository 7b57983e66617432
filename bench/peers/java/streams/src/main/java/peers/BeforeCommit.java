package peers;

import java.util.Map;

import org.apache.kafka.streams.processor.StateStore;
import org.apache.kafka.streams.processor.StateStoreContext;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.internals.CacheFlushListener;
import org.apache.kafka.streams.state.internals.CachedStateStore;

/**
 * Runs something before each commit. Kafka Streams has no such hook, and an offset must not be committed
 * while its row waits in a batch; but it flushes the caches of stores first, so this is a store with a
 * cache, of nothing. The interface is an internal one.
 */
final class BeforeCommit implements StateStore, CachedStateStore<Object, Object> {
  static final String NAME = "before-commit";

  private Runnable action = () -> {};
  private boolean open;

  void run(Runnable action) {
    this.action = action;
  }

  @Override
  public void flushCache() {
    action.run();
  }

  @Override
  public void clearCache() {}

  @Override
  public boolean setFlushListener(CacheFlushListener<Object, Object> listener, boolean sendOldValues) {
    return false;
  }

  @Override
  public String name() {
    return NAME;
  }

  @Override
  public void init(StateStoreContext context, StateStore root) {
    context.register(root, (key, value) -> {});
    open = true;
  }

  @Override
  public void flush() {}

  @Override
  public void close() {
    open = false;
  }

  @Override
  public boolean persistent() {
    return false;
  }

  @Override
  public boolean isOpen() {
    return open;
  }

  static StoreBuilder<BeforeCommit> builder() {
    return new StoreBuilder<>() {
      @Override
      public BeforeCommit build() {
        return new BeforeCommit();
      }

      @Override
      public String name() {
        return NAME;
      }

      @Override
      public boolean loggingEnabled() {
        return false;
      }

      @Override
      public Map<String, String> logConfig() {
        return Map.of();
      }

      @Override
      public StoreBuilder<BeforeCommit> withCachingEnabled() {
        return this;
      }

      @Override
      public StoreBuilder<BeforeCommit> withCachingDisabled() {
        return this;
      }

      @Override
      public StoreBuilder<BeforeCommit> withLoggingEnabled(Map<String, String> config) {
        return this;
      }

      @Override
      public StoreBuilder<BeforeCommit> withLoggingDisabled() {
        return this;
      }
    };
  }
}
