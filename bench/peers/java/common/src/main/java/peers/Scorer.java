package peers;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Map;
import java.util.Set;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;

/** A batch of rows, written straight into the memory that the model reads, and the model. One thread's. */
public final class Scorer implements AutoCloseable {
  private static final String PROBABILITIES = "probabilities";

  private final OrtEnvironment environment = OrtEnvironment.getEnvironment();
  private final OrtSession session;
  private final FloatBuffer inputs;
  private final String[] ids, keys;
  private final long[] times;
  private final OnnxTensor whole;
  private int rows;

  /** Is handed each row of a batch, with its score. */
  public interface Scored {
    void accept(int row, String id, String key, long time, float score);
  }

  public Scorer(String model, int batch) {
    inputs = ByteBuffer.allocateDirect(batch * Features.COUNT * Float.BYTES)
        .order(ByteOrder.nativeOrder()).asFloatBuffer();
    ids = new String[batch];
    keys = new String[batch];
    times = new long[batch];
    try {
      OrtSession.SessionOptions options = new OrtSession.SessionOptions();
      options.setIntraOpNumThreads(1);
      options.setInterOpNumThreads(1);
      options.setOptimizationLevel(OrtSession.SessionOptions.OptLevel.ALL_OPT);
      session = environment.createSession(model, options);
      whole = tensor(batch);
    } catch (OrtException error) {
      throw new IllegalStateException(error);
    }
  }

  public boolean isEmpty() {
    return rows == 0;
  }

  /** Takes a row; whether the batch is full now. */
  public boolean add(Row row) {
    inputs.put(rows * Features.COUNT, row.features);
    ids[rows] = row.id;
    keys[rows] = row.key;
    times[rows] = row.time;
    return ++rows == ids.length;
  }

  /** Scores what was taken, and forgets it. */
  public void flush(Scored scored) {
    if (rows == 0) return;
    try {
      // ONNX Runtime scores a row alone by other sums than one of several, in a logistic regression: it
      // gets company, whatever is there, so that scores do not depend on when a batch went out.
      int run = Math.max(rows, Math.min(2, ids.length));
      OnnxTensor tensor = run == ids.length ? whole : tensor(run);
      try (OrtSession.Result result =
          session.run(Map.of(session.getInputNames().iterator().next(), tensor), Set.of(PROBABILITIES))) {
        FloatBuffer probabilities = ((OnnxTensor) result.get(0)).getFloatBuffer();
        int scoredRows = rows;
        rows = 0;
        for (int i = 0; i < scoredRows; i++) {
          scored.accept(i, ids[i], keys[i], times[i], probabilities.get(2 * i + 1));
        }
      } finally {
        if (tensor != whole) tensor.close();
      }
    } catch (OrtException error) {
      throw new IllegalStateException(error);
    }
  }

  private OnnxTensor tensor(int rows) throws OrtException {
    FloatBuffer part = inputs.duplicate();
    part.position(0).limit(rows * Features.COUNT);
    return OnnxTensor.createTensor(environment, part, new long[] {rows, Features.COUNT});
  }

  @Override
  public void close() {
    try {
      whole.close();
      session.close();
    } catch (OrtException error) {
      throw new IllegalStateException(error);
    }
  }
}
