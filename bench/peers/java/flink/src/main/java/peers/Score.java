package peers;

import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;

/**
 * Scores rows in batches. A batch is scored when it is full, when its first row has waited long enough,
 * before a checkpoint's barrier (else offsets would be committed whose scores are not written), and at
 * the end. An operator, as functions have no hook before a barrier.
 */
public final class Score extends AbstractStreamOperator<Message> implements OneInputStreamOperator<Row, Message> {
  private final String model;
  private final int batch, timeoutMs;
  private transient Scorer scorer;
  private transient Prediction prediction;
  private transient Message message;
  private transient StreamRecord<Message> record;
  private transient boolean timer;

  public Score(String model, int batch, int timeoutMs) {
    this.model = model;
    this.batch = batch;
    this.timeoutMs = timeoutMs;
  }

  @Override
  public void open() throws Exception {
    super.open();
    scorer = new Scorer(model, batch);
    prediction = new Prediction();
    message = new Message();
    record = new StreamRecord<>(message);
  }

  @Override
  public void processElement(StreamRecord<Row> element) {
    if (scorer.add(element.getValue())) {
      flush();
    } else if (!timer) {
      timer = true;
      var clock = getProcessingTimeService();
      clock.registerTimer(clock.getCurrentProcessingTime() + timeoutMs, time -> {
        timer = false;
        flush();
      });
    }
  }

  private void flush() {
    scorer.flush((row, id, key, time, score) -> {
      prediction.set(id, key, time, score);
      message.key = prediction.key();
      message.value = prediction.value();
      output.collect(record.replace(message, time));
    });
  }

  @Override
  public void prepareSnapshotPreBarrier(long checkpoint) {
    flush();
  }

  @Override
  public void finish() throws Exception {
    flush();
    super.finish();
  }

  @Override
  public void close() throws Exception {
    if (scorer != null) scorer.close();
    super.close();
  }
}
